"""The turn of a statement: which block it belongs to, and the wait for it.

Whoever is about to send something on a connection that is in a transaction takes the turn of its
own block there (`turns.py`): statements, and the rows of a server-side cursor.
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

    The context knows. A member of the chain in a context that does not (a fixture's, a copied one)
    is in the innermost block: nobody else of the chain can be running.

    Raises TransactionManagementError for a task or thread that has joined, and whose block was
    ended from outside.
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
        # What a joined task has entered is not the chain's.
        own = (each for each in reversed(turns.blocks) if not each.joined)
        return block or next(own, None)
    if cut is not None:
        raise ended(cut)
    return block or wrapper.aio.session


def block_further_out(wrapper: Wrapper) -> Block | None:
    """The block that this task or thread is in, where it is not the innermost one.

    What is asked of the transaction's state is meant for that block. Django keeps the state of the
    innermost, which may be another task's. None as well for who ends a block: Django goes from one
    to the next itself.
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
    """Wait for the turn of this task or thread. Returns where to end it, if it has begun one.

    Raises TransactionManagementError where the transaction that it had joined has ended, or it was
    left behind by who waited for it.
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
            # statement is one after the block.
            if block is None or block.open or not chains.member_of(state.chain):
                raise


def interrupt(wrapper: Managed) -> None:
    """Cancel what somebody else has running on the connection. Waits for nothing; any thread."""
    wrapper.aio.interrupting = wrapper.aio.driver.interrupt(wrapper)


def spoil(wrapper: Managed, turns: Turns | None) -> None:
    """A statement was cancelled. If that has ended the transaction, its block cannot commit.

    `turns` are the connection's when the statement began. Others mean that it is another's by now.
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
