"""Transactions that can be awaited: `async with transaction.atomic():`, decorators, joined tasks.

Django's `Atomic` decides everything; it runs inside the bridge. What is added is who may use the
connection meanwhile (`gates.py`), and how a block ends:

- R7. Entering a block hands out a `Block`, and leaving it acts on that, in whichever task. Where it
  has ended meanwhile nothing is sent; who thought to commit gets an error.
- What ends a block is shielded (`shield.py`): the transaction is decided before a cancellation goes
  on. One that cannot be decided is closed with its connection, which rolls back what was not
  committed.
- A block that rolls back waits for nobody further in: their blocks end with it. If it ends by a
  cancellation, a statement that somebody else has running in it is cancelled on the server.
- A statement that was cancelled may have ended the whole transaction on the server, so its block
  cannot commit.
- When the hooks of `on_commit()` run, the transaction has ended for them and what they start.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import functools
import inspect
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS
from django.db.transaction import Atomic, TransactionManagementError
from django.db.utils import InterfaceError

from django_aio.bridge import in_bridge, run, wait
from django_aio.db import chains, generators, leases, pool
from django_aio.db.gates import (
    WHY_SPOILED,
    Block,
    Gate,
    closing,
    ended,
    innermost,
    is_inside,
    lose_transaction,
    note_spoiled,
)
from django_aio.db.shield import LIMIT, shielded, until_done
from django_aio.db.state import actor, on_loop
from django_aio.db.turns import interrupt, take_turn

Exc = type[BaseException] | None


class _Next(threading.local):
    """What the very next call of this thread is told, past Django's signatures.

    Nothing waits between the telling and the call.
    """

    connection: Any = None  # that get_connection() is to return
    is_awaited = False  # that the end of a block is awaited, so that it may wait


_next = _Next()


class _OfDjango:
    """Django's own functions, for blocks that nobody leaves."""

    exit: Callable[..., None]


_of_django = _OfDjango()

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


def get_connection(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`django.db.transaction.get_connection`: the connection of a block that is being left."""

    @functools.wraps(upstream)
    def get_connection(using: str | None = None) -> Any:
        given, _next.connection = _next.connection, None
        return upstream(using) if given is None else given

    return get_connection


# What `Atomic` objects were handed out, under the attribute _aio_blocks: a Block, or the connection
# itself in a plain thread. One object may be used by several tasks and threads.
Handed = list[tuple[Any, Any]]


def _hand_out(atomic: Any, what: Any) -> None:
    vars(atomic).setdefault("_aio_blocks", []).append((actor(), what))


def _take_back(atomic: Any) -> Any:
    """What leaves now was handed this: by the same task or thread, last come first."""
    handed: Handed = vars(atomic).get("_aio_blocks") or []
    who = actor()
    at = next((at for at in reversed(range(len(handed))) if handed[at][0] == who), None)
    if at is None:
        # Another task closes a generator: the context knows whose block it holds.
        at = next((at for at, (_, what) in enumerate(handed) if _is_here(what)), len(handed) - 1)
    return handed.pop(at)[1] if handed else None


def _is_here(what: Any) -> bool:
    return isinstance(what, Block) and is_inside(what)


def enter(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Atomic.__enter__`: in a chain, when it is the block's turn."""

    @functools.wraps(upstream)
    def __enter__(self: Any) -> None:
        wrapper: Any = chains.current_connection(self.using or DEFAULT_DB_ALIAS)
        state = wrapper.aio
        if state is None or chains.of_plain_thread(wrapper):
            upstream(self)
            _hand_out(self, wrapper)
            return
        wrapper, held = _begin_on(wrapper)
        state = wrapper.aio
        gate = state.gate if state.gate and (wrapper.in_atomic_block or state.session) else Gate()
        leases.begin_lease(wrapper)
        try:
            upstream(self)
            joined = not chains.member_of(state.chain)
            block = Block(wrapper, gate, innermost.get(), actor(), joined=joined)
            gate.push(block)
            innermost.set(block)
            state.gate = gate
            _hand_out(self, block)
            if joined and isinstance(block.who, asyncio.Task):
                block.who.add_done_callback(functools.partial(_left_by_its_task, self, block))
            if in_bridge():
                generators.hold_bridged(block, sys._getframe(1))
        except BaseException:
            _settle(wrapper)
            raise
        finally:
            if held is not None:
                held.release(actor())

    return __enter__


def _begin_on(wrapper: Any) -> tuple[Any, Gate | None]:
    """Wait for the turn on a connection; one that was lent may be gone by then: then on another."""
    while True:
        leases.forget_lost(wrapper)
        try:
            return wrapper, take_turn(wrapper)
        except (InterfaceError, TransactionManagementError):
            other = chains.current_connection(wrapper.alias)
            if other is wrapper:
                raise
            wrapper = other


def leave(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Atomic.__exit__`: in a chain, when all blocks further in have ended."""
    _of_django.exit = upstream

    @functools.wraps(upstream)
    def __exit__(
        self: Atomic, exc_type: Exc, exc_value: BaseException | None, traceback: Any
    ) -> None:
        is_awaited, _next.is_awaited = _next.is_awaited, False
        what = _take_back(self)
        error = exc_type() if exc_value is None and exc_type is not None else exc_value
        if not isinstance(what, Block):
            _leave_in_thread(self, what, upstream, error)
        elif exc_type is GeneratorExit and not is_awaited and _in_a_destructor(what):
            _leave_soon(what, functools.partial(upstream, self), error)
        else:
            _leave(what, functools.partial(upstream, self), error)

    return __exit__


Upstream = Callable[[Exc, BaseException | None, Any], None]


def _leave_in_thread(
    atomic: Any, wrapper: Any, upstream: Callable[..., None], error: BaseException | None
) -> None:
    """End a block of a plain thread.

    Raises TransactionManagementError where it was to commit, but a coroutine that the thread waited
    for had a statement cancelled in it, or left a guest behind.
    """
    spoiled = None
    if wrapper is not None:
        note_spoiled(wrapper)
        spoiled = vars(wrapper).pop(WHY_SPOILED, None)
        _next.connection = wrapper
    try:
        upstream(atomic, None if error is None else type(error), error, None)
    finally:
        _next.connection = None
        if wrapper is not None and wrapper.aio is not None and not wrapper.in_atomic_block:
            end_transaction(wrapper)
    if spoiled is None:
        return
    if wrapper.in_atomic_block and wrapper.needs_rollback:
        vars(wrapper)[WHY_SPOILED] = spoiled  # it had no savepoint
    if error is None and not atomic._from_testcase:  # which always rolls back
        raise TransactionManagementError(spoiled)


def _leave(block: Block, upstream: Upstream, error: BaseException | None) -> None:
    """End a block: commit, or roll back where an exception passes or it cannot commit.

    Acts on what the block was handed out. Raises the cancellation that it put off, and
    TransactionManagementError where it could not commit.
    """
    refused = _refusal(block)
    cause = error or refused
    wrapper, gate, who = block.wrapper, block.gate, actor()
    held, cancelled = _take_over(block, cause) if block.open else (False, None)
    if not block.open:  # already, or since then: nothing of it is left to end
        if held:
            gate.release(who)
        if error is None:
            raise cancelled or refused or ended(block)
        return
    cause = cause or cancelled
    if isinstance(cause, GeneratorExit):
        gate.abandon(block)  # nobody joins it any more
    wrapper.aio.ended_by = who
    block.rolled_back = cause is not None
    try:
        with shielded():
            gate.cut(block, CUT)
            _next.connection = wrapper
            upstream(None if cause is None else type(cause), cause, None)
    except BaseException as failure:
        if cause is None and wrapper.in_atomic_block and not isinstance(failure, Exception):
            # The savepoint is released, but the block reports a cancellation: whoever goes on as
            # if it had been rolled back must not commit.
            _spoil_outer(block, NOT_ROLLED_BACK)
        _settle(wrapper)
        raise
    finally:
        _next.connection = None
        if wrapper.aio is not None:
            wrapper.aio.ended_by = None
        _left(block, spoils=cause is not None)
        if held:
            gate.release(who)
        leases.end_lease(wrapper)
        leases.drop_if_ended(wrapper)
    if cancelled is not None:
        raise cancelled
    if refused is not None and error is None:
        raise refused


def _refusal(block: Block) -> TransactionManagementError | None:
    """Why the block must not commit, if so."""
    if block.open and block.spoiled is not None:
        return TransactionManagementError(block.spoiled)
    who = actor()
    if block.open and block.who != who and not _acts_for(block):
        return TransactionManagementError(
            ELSEWHERE.format(entered=_name(block.who), left=_name(who))
        )
    return None


def _name(who: Any) -> str:
    return f"task {who.get_name()!r}" if isinstance(who, asyncio.Task) else f"thread {who}"


def _acts_for(block: Block) -> bool:
    """Whether the running task or thread is of the block's chain, or closes its generator."""
    return chains.member_of(block.wrapper.aio.chain) or block in closing.get()


def _left(block: Block, *, spoils: bool) -> None:
    """The block has ended."""
    wrapper, gate = block.wrapper, block.gate
    if spoils and block.spoiled and wrapper.in_atomic_block and wrapper.needs_rollback:
        # It had no savepoint, or it is gone: the block round it has to end the same way.
        _spoil_outer(block, block.spoiled)
    outer = gate.pop(block)
    if outer is not None and outer.needs_rollback:
        outer.needs_rollback, wrapper.needs_rollback = False, True
    if is_inside(block):
        innermost.set(block.parent)
    if not wrapper.in_atomic_block and wrapper.aio is not None and wrapper.aio.gate is gate:
        end_transaction(wrapper)


def _spoil_outer(block: Block, why: str) -> None:
    """The block round this one can only roll back."""
    blocks = block.gate.blocks
    if block in blocks[1:]:
        blocks[blocks.index(block) - 1].spoiled = why
        block.wrapper.needs_rollback = True


def end_transaction(wrapper: Any) -> None:
    """The transaction is over: who joined it is told so."""
    state = wrapper.aio
    gate, session = state.gate, state.session
    if gate is None:
        return
    if session is None:
        state.gate = None
    for block in list(gate.blocks):
        if block is not session:
            gate.pop(block)
    gate.release(gate.holder)


def _take_over(block: Block, cause: BaseException | None) -> tuple[bool, BaseException | None]:
    """Take the gate to end the block. Returns whether it was taken, and what is to be raised then.

    A block that commits waits for those further in. One that rolls back does not, and if it does so
    because its task was cancelled, or a generator is closed, the statement that somebody else has
    running is cancelled too. If that does not end, the connection is closed.
    """
    gate, who = block.gate, actor()
    cancelled = None
    if block.wrapper.aio.interrupting is not None:
        _until_interrupted(block.wrapper)
    if not isinstance(cause, (asyncio.CancelledError, GeneratorExit)):
        try:
            return gate.acquire(who, block, rolls_back=cause is not None), None
        except TransactionManagementError:
            return False, None  # the block has ended
        except asyncio.CancelledError as error:
            cancelled = error
        except SynchronousOnlyOperation as error:
            _sever(block.wrapper)  # another task has a statement running, and nobody can wait
            return False, error
    if gate.holder == who:
        return False, cancelled
    try:
        turn = gate.ask(who, block, rolls_back=True)
    except TransactionManagementError:
        return False, cancelled  # it has ended meanwhile
    if turn is None:
        return True, cancelled
    interrupt(block.wrapper)
    if _comes(turn) and turn.exception() is None:
        _until_interrupted(block.wrapper)
        return True, cancelled
    gate.withdraw(who, turn)
    if block.open:
        _sever(block.wrapper)
    return False, cancelled


def _until_interrupted(wrapper: Any) -> None:
    """Wait for a cancel request that is under way: it must not meet the next statement."""
    request, wrapper.aio.interrupting = wrapper.aio.interrupting, None
    if request is not None and not _comes(request):
        _sever(wrapper)


def _comes(future: concurrent.futures.Future[None]) -> bool:
    """Wait for a future, however often the task is cancelled. Returns whether it came in time."""
    if not in_bridge():
        return bool(concurrent.futures.wait([future], LIMIT).done)
    waited = asyncio.wrap_future(future)
    done = wait(until_done(waited, time.monotonic() + LIMIT))
    if done and not waited.cancelled():
        waited.exception()  # looked at, so that asyncio does not report it
    return done


def _sever(wrapper: Any) -> None:
    """Close the connection of a transaction that cannot be ended in order."""
    if wrapper.connection is not None:
        wrapper.aio.driver.sever(wrapper)
    lose_transaction(wrapper)


def _in_a_destructor(block: Block) -> bool:
    """Whether a generator that holds the block may be closed where nobody can wait for the end.

    A synchronous one is closed by whoever drops it. A thread without a loop can wait.
    """
    return block.wrapper.aio.loop is not None and asyncio._get_running_loop() is not None


def _leave_soon(block: Block, upstream: Upstream, error: BaseException | None) -> None:
    """End the block in a task of its own. What its chain does next waits for that at the gate."""
    if not block.open:
        return
    gate, wrapper = block.gate, block.wrapper
    gate.abandon(block)
    on_loop(
        wrapper.aio.loop,
        _leave_in_task,
        *(block, upstream, error),
        otherwise=functools.partial(_sever, wrapper),
    )


def _leave_in_task(block: Block, upstream: Upstream, error: BaseException | None) -> None:
    context = generators.closing_context((block,))
    pool.store().start(run(_leave, block, upstream, error), context)


def _left_by_its_task(atomic: Atomic, block: Block, task: asyncio.Task[Any]) -> None:
    """A task that had joined has ended: nobody can leave in order what it entered and has left."""
    if block.open and not block.abandoned:
        block.gate.abandon(block)
        _leave_in_task(block, functools.partial(_of_django.exit, atomic), GeneratorExit())


async def aenter(self: Atomic) -> None:
    """Open the transaction, or a savepoint inside one, as `with atomic()` does."""
    watched = generators.watch()
    await run(self.__enter__)
    block = innermost.get()
    if block is not None:
        generators.hold(block, sys._getframe(1), watched=watched)


async def aexit(
    self: Atomic, exc_type: Exc, exc_value: BaseException | None, traceback: TracebackType | None
) -> None:
    """Commit, or roll back where an exception passes, as `with atomic()` does."""
    await run(_exit_awaited, self, exc_type, exc_value, traceback)


def _exit_awaited(self: Atomic, *error: Any) -> None:
    _next.is_awaited = True
    self.__exit__(*error)


def _settle(wrapper: Any) -> None:
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


def decorate(self: Atomic, func: Callable[..., Any]) -> Callable[..., Any]:
    """`@atomic` on a function: on a coroutine function the block lasts until it has returned.

    Raises TypeError for an asynchronous generator function: it would hold a transaction open for
    as long as its consumer pleases.
    """
    if inspect.isasyncgenfunction(func):
        raise TypeError(
            f"@transaction.atomic cannot decorate the asynchronous generator {func.__qualname__}: "
            "the transaction would stay open while its consumer does other things. Use 'async "
            "with transaction.atomic():' inside it, round the statements that belong together."
        )
    if not iscoroutinefunction(func):
        return ContextDecorator.__call__(self, func)  # type: ignore[arg-type]

    @functools.wraps(func)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        async with self._recreate_cm():  # type: ignore[attr-defined]
            return await func(*args, **kwargs)

    return inner


def recreate(self: Atomic) -> Atomic:
    """`Atomic._recreate_cm`: each call of a decorated function has an object of its own."""
    made = copy.copy(self)
    vars(made).pop("_aio_blocks", None)
    return made
