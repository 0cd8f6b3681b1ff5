"""Who may use a connection in a transaction, and when: blocks and their gate.

A task or thread that starts inside a transaction joins it (R3): its statements run in the
transaction, one at a time. A statement that belongs to one savepoint must not run while another
task has a savepoint open further in, or rolling that one back would undo it; so it waits until its
own block is the innermost. Two tasks that each open savepoints therefore run them in some order,
one after the other.

The gate is held for each statement, and across the whole entry and exit of a block, while the depth
is changing. Which block a statement belongs to is known from the context (`contextvars`): a task
that starts inside a block inherits it.

A `Block` is also what the end of an `atomic()` block carries (R7): the logical connection, the gate
of its transaction and its place there. It is made once, and when it has ended, by whomever, whoever
still carries it can do nothing with it any more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from contextvars import ContextVar
from typing import Any, NamedTuple

from django.core.exceptions import SynchronousOnlyOperation
from django.db.transaction import TransactionManagementError
from django.db.utils import Error, InterfaceError

from django_aio.bridge import in_bridge, wait


class Block:
    """One `atomic()` block.

    `open`, `cut_short` and `abandoned` are written under the gate's lock, `spoiled` by whoever
    holds the gate, or leaves a guest behind.
    """

    __slots__ = (
        "abandoned",
        "cut_short",
        "depth",
        "gate",
        "generators",
        "joined",
        "needs_rollback",
        "open",
        "parent",
        "rolled_back",
        "spoiled",
        "unwatched",
        "who",
        "wrapper",
    )

    def __init__(
        self,
        wrapper: Any,
        gate: Gate,
        parent: Block | None,
        who: Any = None,
        *,
        joined: bool = False,
    ) -> None:
        self.wrapper = wrapper
        self.gate = gate
        self.parent = parent
        self.who = who  # the task or thread that entered it
        self.joined = joined  # whether that is not of the connection's chain
        self.open = True
        # Why it was ended from outside, before it was left.
        self.cut_short: str | None = None
        # Why it must not commit: one of its statements was cancelled, or its guest left behind.
        self.spoiled: str | None = None
        # Whether the generator that it was entered in is being closed: see generators.py.
        self.abandoned = False
        self.rolled_back = False
        # Whether somebody in it has asked for its rollback while another block was the innermost.
        self.needs_rollback = False
        self.generators: tuple[int, ...] = ()
        self.unwatched = 0
        # Where Django's lists of blocks and savepoints stand inside it.
        self.depth = (len(wrapper.savepoint_ids), len(wrapper.atomic_blocks))

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and its generator is not being closed, but by this context."""
        return self.open and not (self.abandoned and self not in closing.get())

    @property
    def is_undone(self) -> bool:
        """Whether what was done in it is gone: it was rolled back, or one round it."""
        block: Block | None = self
        while block is not None:
            if block.gate is self.gate and (block.rolled_back or block.cut_short):
                return True
            block = block.parent
        return False


class Session(Block):
    """What holds a physical connection outside of transactions: the outermost block of its gate.

    It begins when the chain may have left something in the database session, or wants the
    connection for itself (`sessions.py`).
    """

    __slots__ = ("joins", "released")

    def __init__(self, wrapper: Any, gate: Gate) -> None:
        super().__init__(wrapper, gate, None)
        # Whether tasks that are started under it must use the same connection.
        self.joins = False
        self.released = False  # whether the chain has said that there is nothing to keep


# The innermost block of this context, of any connection.
innermost: ContextVar[Block | None] = ContextVar("django_aio_block", default=None)

# The blocks of the generator that this context closes: it alone may use their connection meanwhile.
closing: ContextVar[tuple[Block, ...]] = ContextVar("django_aio_closing", default=())

# The open blocks that a suspended asynchronous generator holds, by the id of its frame: see
# generators.py. Not by the frame: who refers to that keeps alive what the generator refers to.
# Written by the thread that enters or leaves the block.
held: dict[int, list[Block]] = {}


def joinable(alias: str) -> Block | None:
    """The innermost open block of this context on a connection of that alias.

    Nobody joins one whose generator is being closed.
    """
    block = innermost.get()
    while block is not None and not (block.wrapper.alias == alias and block.is_usable):
        block = block.parent
    return block


def known_block(gate: Gate) -> Block | None:
    """The innermost block of that transaction that this context knows, and may use."""
    block = innermost.get()
    while block is not None and not (block.gate is gate and block.is_usable):
        block = block.parent
    return block


def is_inside(block: Block) -> bool:
    """Whether this context was made inside the block, open or not."""
    here = innermost.get()
    while here is not None and here is not block:
        here = here.parent
    return here is block


Turn = concurrent.futures.Future[None]


class _Waiter(NamedTuple):
    """Who waits for a gate, and how."""

    turn: Turn
    who: Any
    block: Block | None
    rolls_back: bool  # to end that block
    closes: tuple[Block, ...]  # the blocks of the generator that it closes


class Gate:
    """Lets the users of one transaction in, one at a time, first come first served.

    Any thread, under `_lock`. Whoever leaves hands the gate to the first that may have it: if all
    were only woken up, a task that runs one statement after another would keep the others out.
    """

    __slots__ = ("_banned", "_lock", "_waiting", "blocks", "holder")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Waiter] = []
        self._banned: dict[Any, str] = {}
        self.blocks: list[Block] = []  # outermost first
        self.holder: Any = None

    def acquire(self, who: Any, block: Block | None, *, rolls_back: bool = False) -> bool:
        """Wait until nobody uses the connection and `block` is the innermost open one.

        With `rolls_back` it need not be the innermost: those further in end with it.

        Returns False if `who` holds the gate already, as for the SAVEPOINT statement inside the
        entry of a block. Raises TransactionManagementError if the block has ended meanwhile, and
        SynchronousOnlyOperation in a coroutine, which could only stop the loop.
        """
        if self.holder == who:
            return False
        turn = self.ask(who, block, rolls_back=rolls_back)
        if turn is None:
            return True
        if asyncio._get_running_loop() is not None and not in_bridge():
            # To wait would stop the loop, and with it whoever has the turn.
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

    def ask(self, who: Any, block: Block | None, *, rolls_back: bool = False) -> Turn | None:
        """Take the gate and return None, or return the turn to wait for. Never waits.

        Raises TransactionManagementError if the block has ended: its turn would never come.
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

    def withdraw(self, who: Any, turn: Turn) -> None:
        """Who asked does not wait any longer: the turn, if it came, is the next one's."""
        if not turn.cancel() and turn.exception() is None:
            self.release(who)

    def _may_enter(self, block: Block | None, rolls_back: bool, closes: tuple[Block, ...]) -> bool:
        if block is not None and block.abandoned and block not in closes:
            return False
        return (rolls_back and block is not None) or self._is_innermost(block)

    def _is_innermost(self, block: Block | None) -> bool:
        return not self.blocks or block is None or self.blocks[-1] is block

    def let_end(self, who: Any) -> None:
        """Wait until the innermost block is none whose generator is being closed.

        What is asked of the transaction is then asked after that block. Does not wait where nobody
        can.
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
        """The innermost block, if its generator is being closed, but by this context."""
        block = self.blocks[-1] if self.blocks else None
        return None if block is None or block.is_usable else block

    def release(self, who: Any) -> None:
        """Let the next one in. Does nothing unless `who` holds the gate."""
        with self._lock:
            if self.holder == who:
                self.holder = None
                self._admit()

    def _admit(self) -> None:
        """Settle every turn that can be: under the lock."""
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
        """A block was entered. The caller holds the gate."""
        with self._lock:
            self.blocks.append(block)

    def found(self, session: Session) -> None:
        """A session begins, round all blocks."""
        with self._lock:
            self.blocks.insert(0, session)

    @property
    def transaction(self) -> Block | None:
        """The outermost block of the transaction that is open, or None."""
        return next((block for block in self.blocks[:2] if type(block) is not Session), None)

    def pop(self, block: Block) -> Block | None:
        """A block was left. The caller holds the gate. Returns the innermost that is left."""
        with self._lock:
            _close(block)
            if block in self.blocks:
                self.blocks.remove(block)
            return self.blocks[-1] if self.blocks else None

    def cut(self, outer: Block | None, why: str) -> None:
        """End all blocks further in than `outer`, or all: nobody leaves them in order any more."""
        with self._lock:
            at = self.blocks.index(outer) + 1 if outer in self.blocks else 0
            inner = self.blocks[at:]
            for block in inner:
                _close(block)
                block.cut_short = why
            del self.blocks[at:]
            if outer is not None and inner and outer.wrapper.in_atomic_block:
                # Nobody takes back what Django has noted for them.
                savepoints, blocks = outer.depth
                del outer.wrapper.savepoint_ids[savepoints:]
                del outer.wrapper.atomic_blocks[blocks:]
            self._admit()

    def spoil(self, why: str) -> None:
        """The transaction is lost with its connection: none of its blocks can commit."""
        with self._lock:
            for block in self.blocks:
                block.spoiled = block.spoiled or why

    def abandon(self, block: Block) -> None:
        """The generator that the block was entered in is being closed: others wait for its end."""
        with self._lock:
            block.abandoned = True

    def ban(self, who: Any, why: str) -> None:
        """Refuse `who` from now on, with TransactionManagementError."""
        with self._lock:
            self._banned[who] = why
            self._admit()


def _close(block: Block) -> None:
    block.open = False
    for frame in block.generators:
        blocks = held.get(frame, [])
        if block in blocks:
            blocks.remove(block)
        if not blocks:
            held.pop(frame, None)
    block.generators = ()


def _grant(turn: Turn) -> bool:
    """Tell a waiter that it is its turn. Returns False if it waits no more."""
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
LOST = (
    "The connection of this 'atomic' block was closed, because a cancelled statement did not end "
    "in time, so the block was rolled back. Try it again."
)


def lose_transaction(wrapper: Any) -> None:
    """The connection is given up: the transaction that Django has open on it cannot commit."""
    if not wrapper.in_atomic_block:
        return
    wrapper.closed_in_transaction = wrapper.needs_rollback = True
    if wrapper.aio.gate is not None:
        wrapper.aio.gate.spoil(LOST)


def note_spoiled(wrapper: Any) -> None:
    """Note why the thread's block cannot commit, after a coroutine that it waited for."""
    gate = None if wrapper.aio is None else wrapper.aio.gate
    block = None if gate is None else gate.transaction
    if block is not None and block.spoiled:
        vars(wrapper)[WHY_SPOILED] = block.spoiled


# The attribute of a plain thread's connection that says so.
WHY_SPOILED = "_aio_spoiled"


SESSION_ENDED = (
    "The connection that this task or thread shared with the one that started it has been given "
    "back. It may have carried what a raw cursor leaves in a session (a role, a search path), so "
    "there is none to go on with. Wait for the task before the one that started it ends; or, if "
    "there is nothing to keep, call 'await release_connection()' before you start it."
)


def ended(block: Block | None = None) -> Error:
    """The error of a task that outlives the transaction, or the session, that it has joined."""
    if isinstance(block, Session):
        return InterfaceError(SESSION_ENDED)
    if block is not None and block.cut_short is not None:
        return TransactionManagementError(block.cut_short)
    return TransactionManagementError(
        "The transaction that this task or thread had joined has ended, so it must not go on using "
        "its connection. Wait for the task inside the 'atomic' block that it was started in (for "
        "example with asyncio.TaskGroup), or start it outside."
    )
