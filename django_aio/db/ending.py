"""How an `atomic()` block ends: the turn, the decision, and what the others are told.

- R7. The end acts on the `Block` that the entry handed out. If that has ended meanwhile, nothing is
  sent, and code that meant to commit gets an error.
- The end is shielded (`shield.py`): the transaction is decided before a cancellation goes on. If it
  cannot be decided, its connection is closed, which rolls back what was not committed.
- A block that rolls back does not wait for the blocks further in: they end with it. If a
  cancellation ends it, a statement that somebody else has running in it is cancelled on the server.
- A cancelled statement may have ended the whole transaction on the server, so its block cannot
  commit.

Called by whoever leaves the block, or in a task of its own where nobody can wait. Guarded by
`tests/db/test_atomic.py`, `tests/db/test_generators.py` and `tests/db/test_faults.py`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import SynchronousOnlyOperation
from django.db.transaction import TransactionManagementError

from django_aio import loops
from django_aio.bridge import in_bridge, run, wait
from django_aio.db import chains, generators, leases
from django_aio.db.blocks import Block, closing, ended, innermost, is_inside, lose_transaction
from django_aio.db.shield import LIMIT, shielded, until_done
from django_aio.db.state import actor, on_loop
from django_aio.db.statements import interrupt

if TYPE_CHECKING:
    from django_aio.db.types import Actor, Managed


class _Next(threading.local):
    """Arguments for the very next call in this thread, which Django's signatures do not have.

    Nothing waits between setting one and the call.
    """

    connection: Any = None  # what get_connection() is to return
    is_awaited = False  # whether the end of a block is awaited, so that it may wait


next_call = _Next()


ELSEWHERE = (
    "This 'atomic' block was entered by {entered} and left by {left}, so it was rolled back. Leave "
    "a block in the task that entered it."
)
NOT_ROLLED_BACK = (
    "A block in this 'atomic' block was cancelled at the moment when it ended, so what it had done "
    "could not be undone alone, and this block was rolled back. Try it again."
)
CUT = (
    "The 'atomic' block round this one was left, so this one was rolled back with it. Wait for a "
    "task inside the block that it was started in."
)


# `Atomic.__exit__()` of one object.
Upstream = Callable[[type[BaseException] | None, BaseException | None, Any], None]


def end_block(block: Block, upstream: Upstream, error: BaseException | None) -> None:
    """End a block: commit, or roll back where an exception passes or it cannot commit.

    Raises the cancellation that the end has put off, and TransactionManagementError where the block
    could not commit.
    """
    refused = _refusal(block)
    cause = error or refused
    wrapper, turns, who = block.wrapper, block.turns, actor()
    held, cancelled = _take_over(block, cause) if block.open else (False, None)
    if not block.open:  # it had ended, or ended during the wait: nothing is left to end
        if held:
            turns.release(who)
        if error is None:
            raise cancelled or refused or ended(block)
        return
    cause = cause or cancelled
    if isinstance(cause, GeneratorExit):
        turns.abandon(block)  # nobody joins it any more
    wrapper.aio.ended_by = who
    block.rolled_back = cause is not None
    try:
        with shielded():
            turns.cut(block, CUT)
            next_call.connection = wrapper
            upstream(None if cause is None else type(cause), cause, None)
    except BaseException as failure:
        if cause is None and wrapper.in_atomic_block and not isinstance(failure, Exception):
            # The savepoint is released, but the block reports a cancellation: code that takes the
            # block for rolled back must not commit. Guarded by tests/db/test_faults.py.
            _spoil_outer(block, NOT_ROLLED_BACK)
        close_undecided(wrapper)
        raise
    finally:
        next_call.connection = None
        if wrapper.aio is not None:
            wrapper.aio.ended_by = None
        _left(block, spoils=cause is not None)
        if held:
            turns.release(who)
        leases.end_lease(wrapper)
        leases.drop_if_ended(wrapper)
    if cancelled is not None:
        raise cancelled
    if refused is not None and error is None:
        raise refused


def _refusal(block: Block) -> TransactionManagementError | None:
    """The error that says why the block must not commit, or None."""
    if block.open and block.spoiled is not None:
        return TransactionManagementError(block.spoiled)
    who = actor()
    if block.open and block.who != who and not _acts_for(block):
        return TransactionManagementError(
            ELSEWHERE.format(entered=_name(block.who), left=_name(who))
        )
    return None


def _name(who: Actor | None) -> str:
    return f"task {who.get_name()!r}" if isinstance(who, asyncio.Task) else f"thread {who}"


def _acts_for(block: Block) -> bool:
    """Whether the running task or thread belongs to the block's chain, or closes its generator."""
    return chains.member_of(block.wrapper.aio.chain) or block in closing.get()


def _left(block: Block, *, spoils: bool) -> None:
    """Note that the block has ended, for its transaction and the blocks round it."""
    wrapper, turns = block.wrapper, block.turns
    if spoils and block.spoiled and wrapper.in_atomic_block and wrapper.needs_rollback:
        # It had no savepoint, or that is gone: the block round it must roll back too.
        _spoil_outer(block, block.spoiled)
    outer = turns.pop(block)
    if outer is not None and outer.needs_rollback:
        outer.needs_rollback, wrapper.needs_rollback = False, True
    if is_inside(block):
        innermost.set(block.parent)
    if not wrapper.in_atomic_block and wrapper.aio is not None and wrapper.aio.turns is turns:
        end_transaction(wrapper)


def _spoil_outer(block: Block, why: str) -> None:
    """Make the block round this one roll back."""
    blocks = block.turns.blocks
    if block in blocks[1:]:
        blocks[blocks.index(block) - 1].spoiled = why
        block.wrapper.needs_rollback = True


def end_transaction(wrapper: Managed) -> None:
    """End the transaction for everyone who has joined it."""
    state = wrapper.aio
    turns, session = state.turns, state.session
    if turns is None:
        return
    if session is None:
        state.turns = None
    for block in list(turns.blocks):
        if block is not session:
            turns.pop(block)
    turns.release(turns.holder)


def _take_over(block: Block, cause: BaseException | None) -> tuple[bool, BaseException | None]:
    """Take the turn to end the block. Returns whether it was taken, and what to raise afterwards.

    A block that commits waits for the blocks further in. One that rolls back does not. If it rolls
    back because its task was cancelled, or a generator is closed, the statement that somebody else
    has running in it is cancelled; if that does not end in time, the connection is closed.
    """
    turns, who = block.turns, actor()
    cancelled = None
    if block.wrapper.aio.interrupting is not None:
        _until_interrupted(block.wrapper)
    if not isinstance(cause, (asyncio.CancelledError, GeneratorExit)):
        try:
            return turns.acquire(who, block, rolls_back=cause is not None), None
        except TransactionManagementError:
            return False, None  # the block has ended
        except asyncio.CancelledError as error:
            cancelled = error
        except SynchronousOnlyOperation as error:
            _sever(block.wrapper)  # another task has a statement running, and nobody can wait
            return False, error
    if turns.holder == who:
        return False, cancelled
    try:
        turn = turns.ask(who, block, rolls_back=True)
    except TransactionManagementError:
        return False, cancelled  # the block has ended meanwhile
    if turn is None:
        return True, cancelled
    interrupt(block.wrapper)
    if _comes(turn) and turn.exception() is None:
        _until_interrupted(block.wrapper)
        return True, cancelled
    turns.withdraw(who, turn)
    if block.open:
        _sever(block.wrapper)
    return False, cancelled


def _until_interrupted(wrapper: Managed) -> None:
    """Wait for a cancel request that is under way, which must not hit the next statement."""
    request, wrapper.aio.interrupting = wrapper.aio.interrupting, None
    if request is not None and not _comes(request):
        _sever(wrapper)


def _comes(future: concurrent.futures.Future[None]) -> bool:
    """Wait for a future, however often the task is cancelled. Returns whether it was in time."""
    if not in_bridge():
        return bool(concurrent.futures.wait([future], LIMIT).done)
    waited = asyncio.wrap_future(future)
    done = wait(until_done(waited, time.monotonic() + LIMIT))
    if done and not waited.cancelled():
        waited.exception()  # looked at, so that asyncio does not report it
    return done


def _sever(wrapper: Managed) -> None:
    """Close the connection of a transaction that cannot be ended in order."""
    if wrapper.connection is not None:
        wrapper.aio.driver.sever(wrapper)
    lose_transaction(wrapper)


def end_soon(block: Block, upstream: Upstream, error: BaseException | None) -> None:
    """End the block in a task of its own. The chain's next statement waits its turn."""
    if not block.open:
        return
    turns, wrapper = block.turns, block.wrapper
    turns.abandon(block)
    on_loop(
        cast(asyncio.AbstractEventLoop, wrapper.aio.loop),  # _in_a_destructor() says so
        end_in_task,
        *(block, upstream, error),
        otherwise=functools.partial(_sever, wrapper),
    )


def end_in_task(block: Block, upstream: Upstream, error: BaseException | None) -> None:
    """Start a task that ends the block. Called on the loop of the block's chain."""
    context = generators.closing_context((block,))
    loops.store().start(run(end_block, block, upstream, error), context)


def close_undecided(wrapper: Managed) -> None:
    """After a failed entry or exit: close a connection that may be in an undecided transaction.

    A statement that was cancelled may have begun a transaction, or ended it, without Django
    knowing.
    """
    if wrapper.in_atomic_block or wrapper.connection is None:
        return
    undecided = not wrapper.aio.driver.is_idle(wrapper)
    if wrapper.settings_dict["AUTOCOMMIT"] and (undecided or not wrapper.autocommit):
        wrapper.run_on_commit = []
        wrapper.aio.driver.sever(wrapper)
    else:
        leases.end_lease(wrapper)
