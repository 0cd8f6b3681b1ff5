"""`async with transaction.atomic():` and `@transaction.atomic` on a coroutine function.

Django's `Atomic` decides everything; it runs inside the bridge. The transaction belongs to the task
that opened it. A task that is cancelled while it enters or leaves the outermost block may not know
whether the server has begun or ended the transaction: then the connection is closed, which rolls
back what was not committed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db.transaction import Atomic, get_connection

from django_aio.bridge import run
from django_aio.db.backends.threaded import driver_of


async def aenter(self: Atomic) -> None:
    """Open the transaction, or a savepoint inside one, as `with atomic()` does."""
    try:
        await run(self.__enter__)
    except BaseException:
        await run(_settle, self.using)
        raise


async def aexit(
    self: Atomic,
    exc_type: type[BaseException] | None,
    exc_value: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """Commit, or roll back where an exception passes, as `with atomic()` does."""
    try:
        await run(self.__exit__, exc_type, exc_value, traceback)
    except BaseException:
        await run(_settle, self.using)
        raise


def _settle(using: str | None) -> None:
    """After a failed entry or exit: close a connection that may be in an undecided transaction."""
    connection: Any = get_connection(using)
    if connection.in_atomic_block or connection.connection is None:
        return
    undecided = not driver_of(type(connection)).is_idle(connection)
    if connection.settings_dict["AUTOCOMMIT"] and (undecided or not connection.autocommit):
        connection.close()


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
