"""`async with connection.cursor() as cursor:`, the async form of Django's cursor.

In a coroutine `connection.cursor()` returns what `async with` opens as an `AsyncCursor`; in
synchronous code, bridged or not, it returns Django's `CursorWrapper`, as in stock Django.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from django.core.exceptions import SynchronousOnlyOperation

from django_aio.bridge import in_bridge, run
from django_aio.db.callers import look_at_raw
from django_aio.db.leases import RAW, forget_lost, note_cursor, open_cursor

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper

    from django_aio.db.types import Params, Sql, Wrapper

MESSAGE = (
    "You cannot call this from an async context - use a thread or sync_to_async. In a coroutine "
    "await the a-prefixed method, call synchronous code with 'await run(function)', and open a "
    "cursor with 'async with connection.cursor() as cursor:'."
)


def cursor(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseDatabaseWrapper.cursor` and `chunked_cursor`: asynchronous in a coroutine."""

    @functools.wraps(upstream)
    def cursor(self: Wrapper) -> Any:
        if asyncio._get_running_loop() is not None and not in_bridge():
            caller = sys._getframe(1).f_globals["__name__"]
            return CursorOpener(functools.partial(_open, self, upstream), caller)
        return _open(self, upstream, sys._getframe(1).f_globals["__name__"])

    return cursor


def _open(wrapper: Wrapper, upstream: Callable[..., Any], caller: str) -> Any:
    """Open a cursor for code of the module `caller`."""
    if wrapper.aio is None:
        note_cursor(wrapper, caller)
        return upstream(wrapper)
    forget_lost(wrapper)
    opened = open_cursor(wrapper, upstream, caller)
    if caller == RAW:
        look_at_raw(opened, wrapper)
    return opened


class CursorOpener:
    """The result of `connection.cursor()` in a coroutine, to be opened with `async with`.

    It is not a cursor yet. Synchronous code that a coroutine has called by mistake, such as a lazy
    queryset, gets the error that Django raises for it; or, where `DJANGO_ALLOW_ASYNC_UNSAFE` allows
    that, the cursor, which stops the loop. (Django documentation, "Async safety".) Guarded by
    `tests/db/test_unsafe.py`.
    """

    def __init__(self, open: Callable[[str], Any], caller: str) -> None:
        self._open = open  # opens a cursor for code of a module
        self._caller = caller
        self._cursor: AsyncCursor | None = None
        self._unsafe: Any = None

    async def __aenter__(self) -> AsyncCursor:
        # No module of the ORM: user code may leave anything in the session.
        self._cursor = AsyncCursor(await run(self._open, ""))
        return self._cursor

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._cursor is not None:
            await self._cursor.close()

    def _opened(self) -> Any:
        """The cursor, for synchronous code. Raises SynchronousOnlyOperation unless allowed."""
        if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
            raise SynchronousOnlyOperation(MESSAGE)
        if self._unsafe is None:
            self._unsafe = self._open(self._caller)
        return self._unsafe

    def close(self) -> None:
        """Close the synchronous cursor, if any. Django closes one whose statement raised."""
        if self._unsafe is not None:
            self._unsafe.close()

    def __enter__(self) -> Any:
        return self._opened().__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._unsafe.__exit__(*exc)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._opened())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened(), name)


class AsyncCursor:
    """A database cursor for coroutines: the methods of Django's cursor, awaited.

    `async with connection.cursor() as cursor:` opens and closes it. Attributes such as
    `description` and `rowcount` are the driver's. Used by the task that opened it. Errors are
    Django's database errors. (Django documentation, "Executing custom SQL directly".)
    """

    def __init__(self, cursor: CursorWrapper) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    async def execute(self, sql: Sql, params: Params = None) -> Self:
        """Run one statement."""
        await run(self._cursor.execute, sql, params)
        return self

    async def executemany(self, sql: Sql, param_list: Sequence[Any]) -> Self:
        """Run one statement for each of several rows of parameters."""
        await run(self._cursor.executemany, sql, param_list)
        return self

    async def callproc(
        self,
        procname: str,
        params: Sequence[Any] | None = None,
        kparams: dict[str, Any] | None = None,
    ) -> Any:
        """Call a stored procedure."""
        return await run(self._cursor.callproc, procname, params, kparams)

    async def fetchone(self) -> Any:
        """The next row, or None."""
        return await run(self._cursor.fetchone)

    async def fetchmany(self, size: int | None = None) -> Any:
        """The next `size` rows; by default as many as the driver's `arraysize`."""
        fetchmany = self._cursor.fetchmany
        return await (run(fetchmany) if size is None else run(fetchmany, size))

    async def fetchall(self) -> Any:
        """All rows that are left."""
        return await run(self._cursor.fetchall)

    async def close(self) -> None:
        """Close the cursor. Closing twice does nothing."""
        await run(self._cursor.close)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (row := await self.fetchone()) is not None:
            yield row
