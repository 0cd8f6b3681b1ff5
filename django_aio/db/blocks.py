"""The state that an `atomic()` block carries from its entry to its end.

The context (`contextvars`) knows which block a statement belongs to: a task that starts inside a
block inherits it, and so joins its transaction (R3).

A `Block` is also what ends the block (R7): it knows the logical connection, the turns of its
transaction and its place there. It is made once. When it has ended, by whomever, its carriers can
do nothing with it any more. Guarded by `tests/db/test_generators.py` and
`tests/db/test_joining.py`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from django.db.transaction import TransactionManagementError
from django.db.utils import Error, InterfaceError

if TYPE_CHECKING:
    from django_aio.db.turns import Turns
    from django_aio.db.types import Actor, Managed, Wrapper


class Block:
    """One `atomic()` block.

    `open`, `cut_short` and `abandoned` are written under the lock of the turns; `spoiled` by
    whoever has the turn, or leaves a guest behind.
    """

    __slots__ = (
        "abandoned",
        "cut_short",
        "depth",
        "generators",
        "joined",
        "needs_rollback",
        "open",
        "parent",
        "rolled_back",
        "spoiled",
        "turns",
        "unwatched",
        "who",
        "wrapper",
    )

    def __init__(
        self,
        wrapper: Managed,
        turns: Turns,
        parent: Block | None,
        who: Actor | None = None,
        *,
        joined: bool = False,
    ) -> None:
        self.wrapper = wrapper
        self.turns = turns
        self.parent = parent
        self.who = who  # the task or thread that entered it
        self.joined = joined  # whether `who` belongs to another chain than the connection
        self.open = True
        # Why it was ended from outside, before it was left.
        self.cut_short: str | None = None
        # Why it must not commit: a statement in it was cancelled, or a guest in it left behind.
        self.spoiled: str | None = None
        # Whether the generator that entered it is being closed: see generators.py.
        self.abandoned = False
        self.rolled_back = False
        # Whether code in it has asked for its rollback while another block was the innermost.
        self.needs_rollback = False
        self.generators: tuple[int, ...] = ()
        self.unwatched = 0
        # How long Django's lists of savepoints and blocks are inside it.
        self.depth = (len(wrapper.savepoint_ids), len(wrapper.atomic_blocks))

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and no other context is closing its generator."""
        return self.open and not (self.abandoned and self not in closing.get())

    @property
    def is_undone(self) -> bool:
        """Whether its work is gone: it was rolled back, or a block round it was."""
        block: Block | None = self
        while block is not None:
            if block.turns is self.turns and (block.rolled_back or block.cut_short):
                return True
            block = block.parent
        return False


class Session(Block):
    """The holder of a physical connection outside transactions: the outermost block of all.

    A session begins when the chain may have left something in the database session, or wants the
    connection for itself (`sessions.py`).
    """

    __slots__ = ("joins", "released")

    def __init__(self, wrapper: Managed, turns: Turns) -> None:
        super().__init__(wrapper, turns, None)
        # Whether tasks that are started under it must use the same connection.
        self.joins = False
        self.released = False  # whether the chain has said that there is nothing to keep


# The innermost block of this context, of any connection.
innermost: ContextVar[Block | None] = ContextVar("django_aio_block", default=None)

# The blocks of the generator that this context closes. It alone may use their connection meanwhile.
closing: ContextVar[tuple[Block, ...]] = ContextVar("django_aio_closing", default=())

# The open blocks that a suspended asynchronous generator holds, by the id of its frame: see
# generators.py. The frame itself as a key would keep alive all that the generator refers to.
# Written by the thread that enters or leaves the block.
held: dict[int, list[Block]] = {}


def joinable(alias: str) -> Block | None:
    """The innermost open block of this context on a connection of an alias.

    Skips a block whose generator is being closed: nobody joins that.
    """
    block = innermost.get()
    while block is not None and not (block.wrapper.alias == alias and block.is_usable):
        block = block.parent
    return block


def known_block(turns: Turns) -> Block | None:
    """The innermost block of a transaction that this context knows and may use."""
    block = innermost.get()
    while block is not None and not (block.turns is turns and block.is_usable):
        block = block.parent
    return block


def is_inside(block: Block) -> bool:
    """Whether this context was made inside the block, which may have ended."""
    here = innermost.get()
    while here is not None and here is not block:
        here = here.parent
    return here is block


def close(block: Block) -> None:
    """Note that a block has ended and no generator holds it. Under the lock of its turns."""
    block.open = False
    for frame in block.generators:
        blocks = held.get(frame, [])
        if block in blocks:
            blocks.remove(block)
        if not blocks:
            held.pop(frame, None)
    block.generators = ()


LOST = (
    "The connection of this 'atomic' block was closed, because a cancelled statement did not end "
    "in time, so the block was rolled back. Try it again."
)


def lose_transaction(wrapper: Managed) -> None:
    """Note that the transaction of a connection that is given up cannot commit."""
    if not wrapper.in_atomic_block:
        return
    wrapper.closed_in_transaction = wrapper.needs_rollback = True
    if wrapper.aio.turns is not None:
        wrapper.aio.turns.spoil(LOST)


def note_spoiled(wrapper: Wrapper) -> None:
    """Note why a thread's block cannot commit, after a coroutine that the thread waited for."""
    turns = None if wrapper.aio is None else wrapper.aio.turns
    block = None if turns is None else turns.transaction
    if block is not None and block.spoiled:
        vars(wrapper)[WHY_SPOILED] = block.spoiled


# The attribute of a plain thread's connection that says why its block cannot commit.
WHY_SPOILED = "_aio_spoiled"


SESSION_ENDED = (
    "The connection that this task or thread shared with the one that started it has been given "
    "back. It may have carried what a raw cursor leaves in a session (a role, a search path), so "
    "there is none to go on with. Wait for the task before the one that started it ends; or, if "
    "there is nothing to keep, call 'await release_connection()' before you start it."
)


def ended(block: Block | None = None) -> Error:
    """The error of a task that outlives the transaction or session that it has joined."""
    if isinstance(block, Session):
        return InterfaceError(SESSION_ENDED)
    if block is not None and block.cut_short is not None:
        return TransactionManagementError(block.cut_short)
    return TransactionManagementError(
        "The transaction that this task or thread had joined has ended, so it must not go on using "
        "its connection. Wait for the task inside the 'atomic' block that it was started in (for "
        "example with asyncio.TaskGroup), or start it outside."
    )
