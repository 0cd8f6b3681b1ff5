"""`async with connection.cursor() as cursor:`, the cursor's asynchronous twin.

In a coroutine `connection.cursor()` returns a `AsyncCursor`; in synchronous code, bridged or not,
it returns Django's `CursorWrapper` as ever.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

from django.core.exceptions import SynchronousOnlyOperation

from django_aio.bridge import in_bridge, run


def cursor(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseDatabaseWrapper.cursor` and `chunked_cursor`: asynchronous in a coroutine."""

    @functools.wraps(upstream)
    def cursor(self: Any) -> Any:
        if asyncio._get_running_loop() is None or in_bridge():
            return upstream(self)
        return AsyncCursor(functools.partial(upstream, self))

    return cursor


class AsyncCursor:
    """A database cursor for coroutines: the methods of Django's cursor, awaited.

    Open it with `async with`; it is closed at the end of the block. Attributes such as
    `description` and `rowcount` are the driver's. Used by the task that opened it. Errors are
    Django's database errors. (Django documentation, "Executing custom SQL directly".)
    """

    def __init__(self, open: Callable[[], Any]) -> None:
        self._open = open
        self._cursor: Any = None

    async def __aenter__(self) -> Self:
        self._cursor = await run(self._open)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __enter__(self) -> NoReturn:
        raise SynchronousOnlyOperation(
            "You cannot open a cursor with 'with' in a coroutine. Use "
            "'async with connection.cursor() as cursor:' and await its methods."
        )

    def __exit__(self, *exc: object) -> None:
        """Never reached: `__enter__()` raises."""

    def __getattr__(self, name: str) -> Any:
        if self._cursor is None:
            raise SynchronousOnlyOperation(
                f"The cursor is not open, so it has no {name!r}. Use "
                "'async with connection.cursor() as cursor:'."
            )
        return getattr(self._cursor, name)

    def _opened(self) -> Any:
        return self._cursor if self._cursor is not None else self.__getattr__("execute")

    async def execute(self, sql: Any, params: Any = None) -> Self:
        """Run one statement."""
        await run(self._opened().execute, sql, params)
        return self

    async def executemany(self, sql: Any, param_list: Sequence[Any]) -> Self:
        """Run one statement for each of several rows of parameters."""
        await run(self._opened().executemany, sql, param_list)
        return self

    async def callproc(self, procname: str, params: Any = None, kparams: Any = None) -> Any:
        """Call a stored procedure."""
        return await run(self._opened().callproc, procname, params, kparams)

    async def fetchone(self) -> Any:
        """The next row, or None."""
        return await run(self._opened().fetchone)

    async def fetchmany(self, size: int | None = None) -> Any:
        """The next `size` rows; by default as many as the driver's `arraysize`."""
        fetchmany = self._opened().fetchmany
        return await (run(fetchmany) if size is None else run(fetchmany, size))

    async def fetchall(self) -> Any:
        """All rows that are left."""
        return await run(self._opened().fetchall)

    async def close(self) -> None:
        """Close the cursor. Closing twice does nothing."""
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            await run(cursor.close)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (row := await self.fetchone()) is not None:
            yield row
