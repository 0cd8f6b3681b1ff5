"""Who may use a connection in a transaction, and when: blocks and their gate.

A task or thread that starts inside a transaction joins it (R3): its statements run in the
transaction, one at a time. A statement that belongs to one savepoint must not run while another
task has a savepoint open further in, or rolling that one back would undo it; so it waits until its
own block is the innermost. Two tasks that each open savepoints therefore run them in some order,
one after the other.

The gate is held for each statement, and across the whole entry and exit of a block, while the depth
is changing. Which block a statement belongs to is known from the context (`contextvars`): a task
that starts inside a block inherits it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from contextvars import ContextVar
from typing import Any

from django.db.transaction import TransactionManagementError

from django_aio.bridge import in_bridge, wait


class Block:
    """One open `atomic()` block. `open` is written under the gate's lock."""

    __slots__ = ("gate", "open", "parent", "wrapper")

    def __init__(self, wrapper: Any, gate: Gate, parent: Block | None) -> None:
        self.wrapper = wrapper
        self.gate = gate
        self.parent = parent
        self.open = True


# The innermost block of this context, of any connection.
innermost: ContextVar[Block | None] = ContextVar("django_aio_block", default=None)


def block_of(wrapper: Any) -> Block | None:
    """The innermost open block of this context on `wrapper`."""
    block = innermost.get()
    while block is not None and not (block.open and block.wrapper is wrapper):
        block = block.parent
    return block


def joinable(alias: str) -> Block | None:
    """The innermost open block of this context on a connection of that alias."""
    block = innermost.get()
    while block is not None and not (block.open and block.wrapper.alias == alias):
        block = block.parent
    return block


def is_inside(block: Block) -> bool:
    """Whether this context was made inside the block, open or not."""
    here = innermost.get()
    while here is not None and here is not block:
        here = here.parent
    return here is block


class Gate:
    """Lets the users of one transaction in, one at a time, first come first served.

    Any thread, under `_lock`. Whoever leaves hands the gate to the first that may have it: if all
    were only woken up, a task that runs one statement after another would keep the others out.
    """

    __slots__ = ("_lock", "_waiting", "blocks", "holder")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Each: its turn (False if its block has ended), who waits, and for which block.
        self._waiting: list[tuple[concurrent.futures.Future[bool], Any, Block | None]] = []
        self.blocks: list[Block] = []  # outermost first
        self.holder: Any = None

    def acquire(self, who: Any, block: Block | None) -> bool:
        """Wait until nobody uses the connection and `block` is the innermost open one.

        Returns False if `who` holds the gate already, as for the SAVEPOINT statement inside the
        entry of a block. Raises TransactionManagementError if the block has ended meanwhile.
        """
        if self.holder == who:
            return False
        with self._lock:
            if self.holder is None and self._is_innermost(block):
                self.holder = who
                return True
            turn: concurrent.futures.Future[bool] = concurrent.futures.Future()
            self._waiting.append((turn, who, block))
        try:
            granted = wait(asyncio.wrap_future(turn)) if in_bridge() else turn.result()
        except BaseException:
            if not turn.cancel() and turn.result():
                self.release()  # the turn came and will not be used
            raise
        if not granted:
            raise ended()
        return True

    def _is_innermost(self, block: Block | None) -> bool:
        return not self.blocks or block is None or self.blocks[-1] is block

    def release(self) -> None:
        """Let the next one in."""
        with self._lock:
            self.holder = None
            waiting, self._waiting = self._waiting, []
            for entry in waiting:
                turn, who, block = entry
                if block is not None and not block.open:
                    _settle(turn, False)
                elif self.holder is None and self._is_innermost(block):
                    self.holder = who if _settle(turn, True) else None
                else:
                    self._waiting.append(entry)

    def push(self, block: Block) -> None:
        """A block was entered. The caller holds the gate."""
        with self._lock:
            self.blocks.append(block)

    def pop(self, block: Block) -> None:
        """A block was left. The caller holds the gate."""
        with self._lock:
            block.open = False
            if block in self.blocks:
                self.blocks.remove(block)


def _settle(turn: concurrent.futures.Future[bool], granted: bool) -> bool:
    """Tell a waiter. Returns False if it waits no more."""
    if not turn.set_running_or_notify_cancel():
        return False
    turn.set_result(granted)
    return True


def ended() -> TransactionManagementError:
    """The error of a task that outlives the transaction that it has joined."""
    return TransactionManagementError(
        "The transaction that this task or thread had joined has ended, so it must not go on using "
        "its connection. Wait for the task inside the 'atomic' block that it was started in (for "
        "example with asyncio.TaskGroup), or start it outside."
    )
