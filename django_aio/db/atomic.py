"""Transactions that can be awaited: `async with transaction.atomic():`, decorators, joined tasks.

Django's `Atomic` decides everything; it runs inside the bridge. This package adds who may use the
connection meanwhile (`turns.py`), and how a block ends (`ending.py`). Entering a block hands out a
`Block`; leaving it acts on that `Block`, in whichever task (R7).

When the hooks of `on_commit()` run, the transaction has ended for them and for the tasks that they
start.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.db import DEFAULT_DB_ALIAS
from django.db.transaction import Atomic, TransactionManagementError
from django.db.utils import InterfaceError

from django_aio.bridge import in_bridge, run
from django_aio.db import chains, generators, leases
from django_aio.db.blocks import WHY_SPOILED, Block, innermost, is_inside, note_spoiled
from django_aio.db.ending import (
    close_undecided,
    end_block,
    end_in_task,
    end_soon,
    end_transaction,
    next_call,
)
from django_aio.db.handler import current_connection
from django_aio.db.state import actor
from django_aio.db.statements import take_turn
from django_aio.db.turns import Turns

if TYPE_CHECKING:
    from django_aio.db.types import Managed, Wrapper

Exc = type[BaseException] | None


class _OfDjango:
    """Django's own functions, for blocks that nobody leaves."""

    exit: Callable[..., None]


_of_django = _OfDjango()


def get_connection(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`django.db.transaction.get_connection`: the connection of a block that is being left."""

    @functools.wraps(upstream)
    def get_connection(using: str | None = None) -> Any:
        given, next_call.connection = next_call.connection, None
        return upstream(using) if given is None else given

    return get_connection


# What an `Atomic` object was handed at each entry, in its attribute _aio_blocks: a Block, or in a
# plain thread the connection itself. Several tasks and threads may use one object:
# tests/db/test_generators.py, test_one_atomic_object_for_many_tasks.
Handed = list[tuple[Any, Any]]


def _hand_out(atomic: Atomic, what: Block | Wrapper) -> None:
    vars(atomic).setdefault("_aio_blocks", []).append((actor(), what))


def _take_back(atomic: Atomic) -> Any:
    """Return what this task or thread was handed last, or what its context is in."""
    handed: Handed = vars(atomic).get("_aio_blocks") or []
    who = actor()
    at = next((at for at in reversed(range(len(handed))) if handed[at][0] == who), None)
    if at is None:
        # Another task closes a generator: its context knows the block that the generator holds.
        at = next((at for at, (_, what) in enumerate(handed) if _is_here(what)), len(handed) - 1)
    return handed.pop(at)[1] if handed else None


def _is_here(what: object) -> bool:
    return isinstance(what, Block) and is_inside(what)


def enter(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Atomic.__enter__`: in a chain, enter when it is the block's turn."""

    @functools.wraps(upstream)
    def __enter__(self: Atomic) -> None:
        wrapper: Any = current_connection(self.using or DEFAULT_DB_ALIAS)
        state = wrapper.aio
        if state is None or chains.of_plain_thread(wrapper):
            upstream(self)
            _hand_out(self, wrapper)
            return
        wrapper, held = _begin_on(wrapper)
        state = wrapper.aio
        goes_on = state.turns and (wrapper.in_atomic_block or state.session)
        turns = state.turns if goes_on else Turns()
        leases.begin_lease(wrapper)
        try:
            upstream(self)
            joined = not chains.member_of(state.chain)
            block = Block(wrapper, turns, innermost.get(), actor(), joined=joined)
            turns.push(block)
            innermost.set(block)
            state.turns = turns
            _hand_out(self, block)
            if joined and isinstance(block.who, asyncio.Task):
                block.who.add_done_callback(functools.partial(_left_by_its_task, self, block))
            if in_bridge():
                generators.hold_bridged(block, sys._getframe(1))
        except BaseException:
            close_undecided(wrapper)
            raise
        finally:
            if held is not None:
                held.release(actor())

    return __enter__


def _begin_on(wrapper: Managed) -> tuple[Any, Turns | None]:
    """Wait for the turn on a connection, or on another if that was lent and is gone by then."""
    while True:
        leases.forget_lost(wrapper)
        try:
            return wrapper, take_turn(wrapper)
        except (InterfaceError, TransactionManagementError):
            other = current_connection(wrapper.alias)
            if other is wrapper:
                raise
            wrapper = other


def leave(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Atomic.__exit__`: in a chain, leave when all blocks further in have ended."""
    _of_django.exit = upstream

    @functools.wraps(upstream)
    def __exit__(
        self: Atomic,
        exc_type: Exc,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_awaited, next_call.is_awaited = next_call.is_awaited, False
        what = _take_back(self)
        error = exc_type() if exc_value is None and exc_type is not None else exc_value
        if not isinstance(what, Block):
            _leave_in_thread(self, what, upstream, error)
        elif exc_type is GeneratorExit and not is_awaited and _in_a_destructor(what):
            end_soon(what, functools.partial(upstream, self), error)
        else:
            end_block(what, functools.partial(upstream, self), error)

    return __exit__


def _leave_in_thread(
    atomic: Atomic,
    wrapper: Wrapper | None,
    upstream: Callable[..., None],
    error: BaseException | None,
) -> None:
    """End a block of a plain thread.

    Raises TransactionManagementError if the block was to commit, but a coroutine that the thread
    waited for had a statement cancelled in it, or left a guest behind.
    """
    spoiled = None
    if wrapper is not None:
        note_spoiled(wrapper)
        spoiled = vars(wrapper).pop(WHY_SPOILED, None)
        next_call.connection = wrapper
    try:
        upstream(atomic, None if error is None else type(error), error, None)
    finally:
        next_call.connection = None
        if wrapper is not None and wrapper.aio is not None and not wrapper.in_atomic_block:
            end_transaction(wrapper)
    if spoiled is None or wrapper is None:
        return
    if wrapper.in_atomic_block and wrapper.needs_rollback:
        vars(wrapper)[WHY_SPOILED] = spoiled  # the block had no savepoint
    # That of a test case always rolls back.
    if error is None and not atomic._from_testcase:  # type: ignore[attr-defined]
        raise TransactionManagementError(spoiled)


def _in_a_destructor(block: Block) -> bool:
    """Whether a generator that holds the block may be closed where nobody can wait for its end.

    Whoever drops a synchronous generator closes it. A thread without a loop can wait.
    """
    return block.wrapper.aio.loop is not None and asyncio._get_running_loop() is not None


def _left_by_its_task(atomic: Atomic, block: Block, task: asyncio.Task[Any]) -> None:
    """End a block that a joined task has left open at its own end."""
    if block.open and not block.abandoned:
        block.turns.abandon(block)
        end_in_task(block, functools.partial(_of_django.exit, atomic), GeneratorExit())


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
    next_call.is_awaited = True
    self.__exit__(*error)


def decorate(self: Atomic, func: Callable[..., Any]) -> Callable[..., Any]:
    """`@atomic` on a function: on a coroutine function the block lasts until the coroutine returns.

    Raises TypeError for an asynchronous generator function, which would hold a transaction open for
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
    """`Atomic._recreate_cm`: make an object of its own for each call of a decorated function."""
    made = copy.copy(self)
    vars(made).pop("_aio_blocks", None)
    return made
