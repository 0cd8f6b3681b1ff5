"""Transactions that can be awaited: `async with transaction.atomic():`, decorators, joined tasks.

Django's `Atomic` decides everything; it runs inside the bridge. What is added is who may use the
connection meanwhile (`gates.py`). A task that is cancelled while it enters or leaves the outermost
block may not know whether the server has begun or ended the transaction: then the connection is
closed, which rolls back what was not committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db import DEFAULT_DB_ALIAS
from django.db.transaction import Atomic, get_connection

from django_aio.bridge import in_bridge, run, wait
from django_aio.db import chains, pool
from django_aio.db.gates import Block, Gate, block_of, ended, innermost
from django_aio.db.state import State, actor

Exc = type[BaseException] | None


def enter(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Atomic.__enter__`: in a chain, when it is the block's turn."""

    @functools.wraps(upstream)
    def __enter__(self: Atomic) -> None:
        wrapper: Any = get_connection(self.using)
        state = wrapper.aio
        if state is None or chains.of_plain_thread(wrapper):
            upstream(self)
            return
        gate = state.gate if wrapper.in_atomic_block and state.gate else Gate()
        held = gate.acquire(actor(), _own_block(wrapper))
        pool.begin_lease(wrapper)
        try:
            upstream(self)
            block = Block(wrapper, gate, innermost.get())
            gate.push(block)
            innermost.set(block)
            state.gate = gate
        except BaseException:
            _settle(wrapper)
            raise
        finally:
            if held:
                gate.release()

    return __enter__


def leave(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Atomic.__exit__`: in a chain, when all blocks further in have ended."""

    @functools.wraps(upstream)
    def __exit__(
        self: Atomic, exc_type: Exc, exc_value: BaseException | None, traceback: Any
    ) -> None:
        wrapper: Any = get_connection(self.using)
        state = wrapper.aio
        gate = None if state is None else state.gate
        if gate is None or chains.of_plain_thread(wrapper):
            upstream(self, exc_type, exc_value, traceback)
            if gate is not None and not wrapper.in_atomic_block:
                _end(state)
            return
        block = _own_block(wrapper)
        cancelled = None
        try:
            held = gate.acquire(actor(), block)
        except asyncio.CancelledError as error:
            # The block must end now, whoever is further in: without its connection, all of it is
            # rolled back.
            held, cancelled = False, error
            wrapper.close()
            exc_type, exc_value, traceback = type(error), error, error.__traceback__
        try:
            upstream(self, exc_type, exc_value, traceback)
        except BaseException:
            _settle(wrapper)
            raise
        finally:
            if block is not None:
                gate.pop(block)
                if innermost.get() is block:
                    innermost.set(block.parent)
            if not wrapper.in_atomic_block and state.gate is gate:
                _end(state)
            if held:
                gate.release()
            pool.release_lease(wrapper)
        if cancelled is not None:
            raise cancelled

    return __exit__


def _end(state: State) -> None:
    """The transaction is over: who joined it is told so."""
    gate, state.gate = state.gate, None
    for block in [] if gate is None else list(gate.blocks):
        gate.pop(block)  # type: ignore[union-attr]


def _own_block(wrapper: Any) -> Block | None:
    """The block that a statement of this task or thread belongs to.

    The context knows. A member of the chain in a context that does not (a fixture's, a copied one)
    is in the innermost block: nobody else of the chain can be running.
    """
    block = block_of(wrapper)
    gate = wrapper.aio.gate
    if block is None and gate is not None and gate.blocks and chains.member_of(wrapper.aio.chain):
        return gate.blocks[-1]  # type: ignore[no-any-return]
    return block


def execute_with_wrappers(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`CursorWrapper._execute_with_wrappers`: a statement of a transaction, when it is its turn."""

    @functools.wraps(upstream)
    def _execute_with_wrappers(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = self.db.aio
        if state is None or chains.of_plain_thread(self.db):
            return upstream(self, *args, **kwargs)
        gate, held = state.gate, False
        if gate is not None and self.db.in_atomic_block:
            held = gate.acquire(actor(), _own_block(self.db))
        elif innermost.get() is not None and not chains.member_of(state.chain):
            raise ended()
        try:
            return upstream(self, *args, **kwargs)
        except asyncio.CancelledError:
            _close_cancelled(self)
            raise
        finally:
            if held:
                gate.release()

    return _execute_with_wrappers


def _close_cancelled(cursor: Any) -> None:
    """Close a cursor of the ORM whose statement was cancelled.

    Django does so for every Exception, which a CancelledError is not: the lease of the cursor, or
    the server's cursor, would stay.
    """
    if "close" in vars(cursor) or getattr(cursor.cursor, "name", None):
        with contextlib.suppress(Exception):
            cursor.close()


async def aenter(self: Atomic) -> None:
    """Open the transaction, or a savepoint inside one, as `with atomic()` does."""
    await run(self.__enter__)


async def aexit(
    self: Atomic, exc_type: Exc, exc_value: BaseException | None, traceback: TracebackType | None
) -> None:
    """Commit, or roll back where an exception passes, as `with atomic()` does."""
    await run(self.__exit__, exc_type, exc_value, traceback)


def _settle(wrapper: Any) -> None:
    """After a failed entry or exit: close a connection that may be in an undecided transaction.

    A statement that was cancelled may have begun a transaction, or ended it, without Django
    knowing.
    """
    if wrapper.in_atomic_block or wrapper.connection is None:
        return
    undecided = not wrapper.aio.driver.is_idle(wrapper)
    if wrapper.settings_dict["AUTOCOMMIT"] and (undecided or not wrapper.autocommit):
        wrapper.close()
    else:
        pool.release_lease(wrapper)


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


def on_commit(upstream: Callable[..., None]) -> Callable[..., None]:
    """`BaseDatabaseWrapper.on_commit`: the callback may be a coroutine function.

    It is awaited when the transaction commits. Raises TypeError, as Django does, for what cannot
    be called.
    """

    @functools.wraps(upstream)
    def on_commit(self: Any, func: Callable[..., Any], robust: bool = False) -> None:
        if iscoroutinefunction(func):
            func = _awaited(func)
        upstream(self, func, robust)

    return on_commit


def _awaited(func: Callable[[], Any]) -> Callable[[], Any]:
    """A callback that awaits `func()`: in the bridge, or on a loop of its own."""
    from asgiref.sync import async_to_sync

    @functools.wraps(func, updated=())
    def call() -> Any:
        return wait(func()) if in_bridge() else async_to_sync(func)()

    return call


async def aon_commit(
    func: Callable[[], Any], using: str | None = None, robust: bool = False
) -> None:
    """Register `func` to be called when the current transaction commits; at once if there is none.

    The asynchronous twin of `transaction.on_commit()`: `func` may be a coroutine function, and is
    awaited. With `robust`, an exception of `func` is logged and the other callbacks still run.
    (Django documentation, "Performing actions after commit".)
    """
    await run(get_connection(using or DEFAULT_DB_ALIAS).on_commit, func, robust)
