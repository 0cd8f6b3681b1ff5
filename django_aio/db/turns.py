"""The turns of a transaction: who may use its connection, and when.

A task or thread that starts inside a transaction joins it (R3): its statements run in the
transaction, one at a time. A statement that belongs to one savepoint must not run while another
task has a savepoint open further in, because rolling that one back would undo the statement; so the
statement waits until its own block is the innermost. Two tasks that each open savepoints therefore
run them one after the other, in some order.

A turn lasts for one statement, or for the whole entry or exit of a block, while the depth changes.
(`statements.py` finds the block that a statement belongs to.) Guarded by `tests/db/test_turns.py`
and `tests/db/test_joining.py`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import NamedTuple

from django.core.exceptions import SynchronousOnlyOperation
from django.db.transaction import TransactionManagementError

from django_aio.bridge import in_bridge, wait
from django_aio.db.blocks import Block, Session, close, closing, ended

Turn = concurrent.futures.Future[None]


class _Waiter(NamedTuple):
    """Who waits for a turn, and how."""

    turn: Turn
    who: object
    block: Block | None
    rolls_back: bool  # whether the turn is to roll that block back
    closes: tuple[Block, ...]  # the blocks of the generator that `who` closes


class Turns:
    """The users of one transaction, let in one at a time, first come first served.

    Any thread, under `_lock`. The end of a turn gives the next one to the first waiter that may
    have it. If it only woke all of them up, a task that runs one statement after another would keep
    the others out. Whoever takes a turn (`who`) is only compared and hashed.
    """

    __slots__ = ("_banned", "_lock", "_waiting", "blocks", "holder")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Waiter] = []
        self._banned: dict[object, str] = {}
        self.blocks: list[Block] = []  # outermost first
        self.holder: object = None

    def acquire(self, who: object, block: Block | None, *, rolls_back: bool = False) -> bool:
        """Wait until nobody uses the connection and `block` is the innermost open one.

        With `rolls_back` the block need not be the innermost: those further in end with it.

        Returns False if `who` has the turn already, as for the SAVEPOINT statement inside the entry
        of a block. Raises TransactionManagementError if the block has ended meanwhile, and
        SynchronousOnlyOperation in a coroutine, whose wait would stop the loop.
        """
        if self.holder == who:
            return False
        turn = self.ask(who, block, rolls_back=rolls_back)
        if turn is None:
            return True
        if asyncio._get_running_loop() is not None and not in_bridge():
            # A wait would stop the loop, and with it whoever has the turn: tests/db/test_unsafe.py.
            self.withdraw(who, turn)
            raise SynchronousOnlyOperation(OTHERS_TURN)
        try:
            if in_bridge():
                wait(asyncio.wrap_future(turn))
            else:
                turn.result()
        except BaseException:
            self.withdraw(who, turn)
            raise
        return True

    def ask(self, who: object, block: Block | None, *, rolls_back: bool = False) -> Turn | None:
        """Begin a turn and return None, or return the turn to wait for. Never waits.

        Raises TransactionManagementError if the block has ended, because its turn would never come.
        """
        with self._lock:
            if who in self._banned:
                raise TransactionManagementError(self._banned[who])
            if block is not None and not block.open:
                raise ended(block)
            if self.holder is None and self._may_enter(block, rolls_back, closing.get()):
                self.holder = who
                return None
            waiter = _Waiter(concurrent.futures.Future(), who, block, rolls_back, closing.get())
            self._waiting.append(waiter)
            return waiter.turn

    def withdraw(self, who: object, turn: Turn) -> None:
        """Take back a request. A turn that has come already goes to the next waiter."""
        if not turn.cancel() and turn.exception() is None:
            self.release(who)

    def _may_enter(self, block: Block | None, rolls_back: bool, closes: tuple[Block, ...]) -> bool:
        if block is not None and block.abandoned and block not in closes:
            return False
        return (rolls_back and block is not None) or self._is_innermost(block)

    def _is_innermost(self, block: Block | None) -> bool:
        return not self.blocks or block is None or self.blocks[-1] is block

    def let_end(self, who: object) -> None:
        """Wait while the generator of the innermost block is being closed.

        A question about the transaction's state is meant for the time after that block. Does not
        wait where nobody can.
        """
        while self.holder != who and (block := self.closing_block()) is not None:
            if asyncio._get_running_loop() is not None and not in_bridge():
                return
            try:
                self.acquire(who, block)
            except TransactionManagementError:
                if block.open:
                    raise

    def closing_block(self) -> Block | None:
        """The innermost block if another context is closing its generator, else None."""
        block = self.blocks[-1] if self.blocks else None
        return None if block is None or block.is_usable else block

    def release(self, who: object) -> None:
        """End the turn of `who` and let the next one in. Does nothing if another has the turn."""
        with self._lock:
            if self.holder == who:
                self.holder = None
                self._admit()

    def _admit(self) -> None:
        """Grant or refuse every turn that can be decided. Under the lock."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.who in self._banned:
                _refuse(each.turn, TransactionManagementError(self._banned[each.who]))
            elif each.block is not None and not each.block.open:
                _refuse(each.turn, ended(each.block))
            elif self.holder is None and self._may_enter(*each[2:]):
                self.holder = each.who if _grant(each.turn) else None
            else:
                self._waiting.append(each)

    def push(self, block: Block) -> None:
        """Add a block that was entered. The caller has the turn."""
        with self._lock:
            self.blocks.append(block)

    def found(self, session: Session) -> None:
        """Add a session that begins, round all blocks."""
        with self._lock:
            self.blocks.insert(0, session)

    @property
    def transaction(self) -> Block | None:
        """The outermost block of the open transaction, or None."""
        return next((block for block in self.blocks[:2] if type(block) is not Session), None)

    def pop(self, block: Block) -> Block | None:
        """Remove a block that was left. The caller has the turn. Returns the innermost one left."""
        with self._lock:
            close(block)
            if block in self.blocks:
                self.blocks.remove(block)
            return self.blocks[-1] if self.blocks else None

    def cut(self, outer: Block | None, why: str) -> None:
        """End all blocks further in than `outer`, or all of them, since nobody will leave them."""
        with self._lock:
            at = self.blocks.index(outer) + 1 if outer in self.blocks else 0
            inner = self.blocks[at:]
            for block in inner:
                close(block)
                block.cut_short = why
            del self.blocks[at:]
            if outer is not None and inner and outer.wrapper.in_atomic_block:
                # Take back what Django has noted for them.
                savepoints, blocks = outer.depth
                del outer.wrapper.savepoint_ids[savepoints:]
                del outer.wrapper.atomic_blocks[blocks:]
            self._admit()

    def spoil(self, why: str) -> None:
        """Keep every block from committing, because the transaction is lost with its connection."""
        with self._lock:
            for block in self.blocks:
                block.spoiled = block.spoiled or why

    def abandon(self, block: Block) -> None:
        """Note that the generator of a block is being closed: others wait for the block's end."""
        with self._lock:
            block.abandoned = True

    def ban(self, who: object, why: str) -> None:
        """Refuse `who` from now on, with TransactionManagementError."""
        with self._lock:
            self._banned[who] = why
            self._admit()


def _grant(turn: Turn) -> bool:
    """Tell a waiter that its turn has come. Returns False if it does not wait any more."""
    if not turn.set_running_or_notify_cancel():
        return False
    turn.set_result(None)
    return True


def _refuse(turn: Turn, error: Exception) -> None:
    if turn.set_running_or_notify_cancel():
        turn.set_exception(error)


OTHERS_TURN = (
    "Another task is using this connection, which they share in a transaction or because of what a "
    "raw cursor may have set. Synchronous code in a coroutine (DJANGO_ALLOW_ASYNC_UNSAFE) cannot "
    "wait for that. Await the a-prefixed method, or use 'await run(function)'."
)
