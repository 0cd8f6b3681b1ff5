"""The statements of a transaction, which take turns, and its `on_commit()` hooks.

How a block begins and ends is in `atomic.py`. Guarded by `tests/db/test_transaction.py`,
`tests/db/test_on_commit.py` and `tests/db/test_states.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS

from django_aio.bridge import in_bridge, run, wait
from django_aio.db import leases
from django_aio.db.blocks import Block, innermost, is_inside, known_block
from django_aio.db.callers import look_at, looked_at
from django_aio.db.ending import end_transaction
from django_aio.db.handler import current_connection
from django_aio.db.shield import unshielded
from django_aio.db.state import actor
from django_aio.db.statements import block_further_out, spoil, take_turn
from django_aio.db.turns import Turns

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper

    from django_aio.db.types import Wrapper


def execute_with_wrappers(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`CursorWrapper._execute_with_wrappers`: a statement of a transaction, when it is its turn."""

    @functools.wraps(upstream)
    def _execute_with_wrappers(
        self: CursorWrapper, sql: object, params: object, many: bool, executor: Callable[..., Any]
    ) -> Any:
        state = self.db.aio
        if state is None:
            return upstream(self, sql, params, many, executor)
        looks = state.loop is not None and (state.session is None or not state.session.joins)
        if looks:
            executor = look_at(self, sql, executor)
        turns = take_turn(self.db)
        whole = state.turns
        try:
            state.driver.tidy(self.db)
            return upstream(self, sql, params, many, executor)
        except asyncio.CancelledError:
            _cancelled(self, whole)
            raise
        finally:
            if looks:
                looked_at(self)
            if turns is not None:
                turns.release(actor())

    return _execute_with_wrappers


def _cancelled(cursor: CursorWrapper, turns: Turns | None) -> None:
    """Close the cursor of a statement that was cancelled.

    Django closes it for every Exception, which a CancelledError is not. Otherwise the lease of the
    cursor, or the server's cursor, would stay.
    """
    spoil(cursor.db, turns)
    if "close" in vars(cursor) or getattr(cursor.cursor, "name", None):
        with contextlib.suppress(Exception):
            cursor.close()


def run_and_clear_commit_hooks(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`BaseDatabaseWrapper.run_and_clear_commit_hooks`: the transaction has ended for the hooks.

    The hooks, and the tasks that they start, work outside it. They can be cancelled.
    """

    @functools.wraps(upstream)
    def run_and_clear_commit_hooks(self: Wrapper) -> None:
        if self.aio is None or not self.run_on_commit:
            upstream(self)
            return
        state = self.aio
        if state.turns is not None and not self.in_atomic_block:
            outermost = state.turns.transaction
            end_transaction(self)
            if outermost is not None and is_inside(outermost):
                innermost.set(outermost.parent)
        leases.end_lease(self)
        with unshielded():
            upstream(self)

    return run_and_clear_commit_hooks


def on_commit(upstream: Callable[..., None]) -> Callable[..., None]:
    """`BaseDatabaseWrapper.on_commit`: the callback may be a coroutine function.

    Its coroutine is awaited when the transaction commits. Raises TypeError, as Django does, if
    `func` cannot be called.
    """

    @functools.wraps(upstream)
    def on_commit(self: Wrapper, func: Callable[..., Any], robust: bool = False) -> None:
        if iscoroutinefunction(func):
            func = _awaited(func)
        if self.aio is not None and self.aio.turns is not None:
            _await_closing(self.aio.turns)
        block = block_further_out(self)
        upstream(self if block is None else _Outer(self, block), func, robust)

    return on_commit


def _await_closing(turns: Turns) -> None:
    """Wait for the end of a block whose generator was left. Its hooks never run.

    Raises SynchronousOnlyOperation where nobody can wait.
    """
    turns.let_end(actor())
    if turns.closing_block() is not None and known_block(turns) is None:
        raise SynchronousOnlyOperation(CLOSING)


CLOSING = (
    "The transaction of a generator that was left is being rolled back; on_commit() cannot wait "
    "for that here. Use 'await transaction.aon_commit(function)'."
)


class _Outer:
    """The transaction as `on_commit()` sees it from a block that is not the innermost."""

    def __init__(self, wrapper: Wrapper, block: Block) -> None:
        self.in_atomic_block = True
        self.savepoint_ids = wrapper.savepoint_ids[: block.depth[0]]
        self.run_on_commit = wrapper.run_on_commit


def _get_needs_rollback(wrapper: Wrapper) -> bool:
    """Whether the block that this task or thread is in can only be rolled back."""
    block = block_further_out(wrapper)
    flag: bool = vars(wrapper)["needs_rollback"] if block is None else block.needs_rollback
    return flag


def _set_needs_rollback(wrapper: Wrapper, value: bool) -> None:
    block = block_further_out(wrapper)
    if block is None:
        vars(wrapper)["needs_rollback"] = value
    else:
        block.needs_rollback = value


# `BaseDatabaseWrapper.needs_rollback`, which Django sets for the innermost block: in
# `set_rollback()`, and where the ORM fails before it sends anything.
needs_rollback = property(_get_needs_rollback, _set_needs_rollback)


def _awaited(func: Callable[[], Any]) -> Callable[[], Any]:
    """Return a callback that awaits `func()`: in the bridge, or on a loop of its own."""

    @functools.wraps(func, updated=())
    def call() -> Any:
        return wait(func()) if in_bridge() else async_to_sync(func)()

    return call


async def aon_commit(
    func: Callable[[], Any], using: str | None = None, robust: bool = False
) -> None:
    """Register `func` to be called when the current transaction commits; at once if there is none.

    The async form of `transaction.on_commit()`: `func` may be a coroutine function, and is
    awaited. With `robust`, an exception of `func` is logged and the other callbacks still run.
    (Django documentation, "Performing actions after commit".)
    """
    await run(_on_commit, using or DEFAULT_DB_ALIAS, func, robust)


def _on_commit(alias: str, func: Callable[[], Any], robust: bool) -> None:
    current_connection(alias).on_commit(func, robust)
