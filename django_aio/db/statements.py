"""The turn of a statement: which block it belongs to, and the wait for it.

Code that is about to send something on a connection in a transaction, be it a statement or a fetch
from a server-side cursor, first takes the turn of its own block there (`turns.py`). Guarded by
`tests/db/test_joining.py` and `tests/db/test_statements.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.db.transaction import TransactionManagementError

from django_aio.db import chains, sessions
from django_aio.db.blocks import Block, ended, innermost, known_block
from django_aio.db.generators import let_close
from django_aio.db.state import actor, connecting
from django_aio.db.turns import Turns

if TYPE_CHECKING:
    from django_aio.db.types import Managed, Wrapper

ROLLED_BACK = (
    "A statement in this 'atomic' block was cancelled, so the block was rolled back: the database "
    "has given up the transaction. Let the cancellation leave the block, or put a block of its own "
    "round what may be cancelled."
)


def own_block(wrapper: Wrapper) -> Block | None:
    """The block that a statement of this task or thread belongs to, or None.

    The context knows the block. In a context that does not (a fixture's, a copied one) a member of
    the chain is in the innermost block, because nobody else of the chain can be running.

    Raises TransactionManagementError for a task or thread that has joined a block that was ended
    from outside.
    """
    if wrapper.aio is None:
        return None
    turns = wrapper.aio.turns
    if turns is None:
        return None
    cut = None
    block = innermost.get()
    while block is not None and not (block.turns is turns and block.is_usable):
        if block.turns is turns and block.cut_short is not None:
            cut = cut or block
        block = block.parent
    if chains.member_of(wrapper.aio.chain):
        # The blocks that a joined task has entered are not the chain's.
        own = (each for each in reversed(turns.blocks) if not each.joined)
        return block or next(own, None)
    if cut is not None:
        raise ended(cut)
    return block or wrapper.aio.session


def block_further_out(wrapper: Wrapper) -> Block | None:
    """The block that this task or thread is in, if it is not the innermost one; else None.

    Questions about the transaction's state are meant for that block, but Django keeps the state of
    the innermost, which may be another task's. None as well while this task or thread ends a block:
    Django then goes from one block to the next itself.
    """
    state = wrapper.aio
    if state is None:
        return None
    turns = state.turns
    if turns is None or (state.ended_by is not None and state.ended_by == actor()):
        return None
    block = known_block(turns)
    return None if block is None or block in turns.blocks[-1:] else block


def take_turn(wrapper: Wrapper) -> Turns | None:
    """Wait for the turn of this task or thread. Returns the turns to release, if it has begun one.

    Raises TransactionManagementError if the transaction that it had joined has ended, or its caller
    has left it behind.
    """
    state = wrapper.aio
    if state is None or chains.of_plain_thread(wrapper):  # type: ignore[arg-type]
        return None
    while True:
        turns = state.turns
        if turns is None:
            inherits = innermost.get() is not None or sessions.known.get()
            if inherits and not chains.member_of(state.chain):
                raise chains.refusal() or ended()
            return None
        who = actor()
        if turns.holder == who or connecting.get() is wrapper:
            return None  # a statement of the entry or the end of a block, or of connecting
        block = own_block(wrapper)
        let_close(block)
        try:
            return turns if turns.acquire(who, block) else None
        except TransactionManagementError:
            # The generator that held the block was left, and has been closed meanwhile: the
            # statement comes after the block. Guarded by tests/db/test_generators.py.
            if block is None or block.open or not chains.member_of(state.chain):
                raise


def interrupt(wrapper: Managed) -> None:
    """Cancel somebody else's statement on the connection. Waits for nothing; any thread."""
    wrapper.aio.interrupting = wrapper.aio.driver.interrupt(wrapper)


def spoil(wrapper: Managed, turns: Turns | None) -> None:
    """Note after a cancelled statement that its block cannot commit, if the transaction is lost.

    `turns` are the connection's when the statement began. If they differ from those of now, the
    connection serves another transaction.
    """
    if not wrapper.in_atomic_block or wrapper.aio.turns is not turns:
        return
    if wrapper.aio.driver.is_intact(wrapper):
        return
    wrapper.needs_rollback = True
    block = own_block(wrapper)
    if block is not None and block.spoiled is None:
        block.spoiled = ROLLED_BACK


@contextlib.contextmanager
def turn(wrapper: Wrapper) -> Iterator[None]:
    """Take the turn for the length of a `with` block."""
    turns = take_turn(wrapper)
    whole = None if wrapper.aio is None else wrapper.aio.turns
    try:
        yield
    except asyncio.CancelledError:
        if wrapper.aio is not None:
            spoil(wrapper, whole)
        raise
    finally:
        if turns is not None:
            turns.release(actor())
