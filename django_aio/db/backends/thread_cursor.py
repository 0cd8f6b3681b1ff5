"""A driver's cursor whose calls go to a thread: once for a statement with its first rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

# Django fetches by 100 rows (GET_ITERATOR_CHUNK_SIZE): a query of one page goes to the thread once.
FIRST_ROWS = 100
MOST_ROWS = 2000


class Calls(Protocol):
    """The way in which the calls of one driver's connection are made."""

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func` where it may block, and wait for its result."""

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Call `func` without waiting, before or after the next call.

        `quick` says that `func` does not wait for the server.
        """


class ThreadCursor:
    """A driver's cursor whose blocking calls go to a thread.

    `execute()` fetches the first rows in the same call; further rows come in growing batches. Every
    other attribute is the driver's. Used by one chain, one call at a time.
    """

    __slots__ = ("_calls", "_cursor", "_exhausted", "_rows", "_size")

    def __init__(self, cursor: Any, calls: Calls) -> None:
        self._cursor = cursor
        self._calls = calls
        self._forget_rows()

    def _forget_rows(self) -> None:
        self._rows: list[Any] = []  # read from the driver and not yet asked for, last one first
        self._exhausted = False
        self._size = FIRST_ROWS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ThreadCursor.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._cursor, name, value)

    def __enter__(self) -> ThreadCursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def execute(self, *args: Any) -> ThreadCursor:
        """Run one statement and read its first rows, in one call."""
        self._forget_rows()
        self._take(self._calls.call(self._execute, "execute", *args))
        return self

    def executemany(self, *args: Any) -> ThreadCursor:
        """Run one statement for each of several rows of parameters."""
        self._forget_rows()
        self._take(self._calls.call(self._execute, "executemany", *args))
        return self

    def callproc(self, *args: Any) -> Any:
        """Call a stored procedure."""
        self._forget_rows()
        return self._calls.call(self._cursor.callproc, *args)

    def nextset(self) -> Any:
        """Go to the next result of the statement, where the driver has several."""
        self._forget_rows()
        return self._calls.call(self._cursor.nextset)

    def close(self) -> None:
        """Close the driver's cursor. Never waits: it may be the end of an iterator left early."""
        self._calls.soon(self._cursor.close, quick=self._exhausted or not self._has_rows())

    def _has_rows(self) -> bool:
        return self._cursor.description is not None

    def _execute(self, method: str, *args: Any) -> list[Any]:
        """In the thread: run the statement and read ahead."""
        getattr(self._cursor, method)(*args)
        if self._cursor.description is None or method == "executemany":
            return []
        return list(self._cursor.fetchmany(self._size))

    def _read(self) -> None:
        """Read the next batch."""
        self._size = min(self._size * 2, MOST_ROWS)
        self._take(list(self._calls.call(self._cursor.fetchmany, self._size)))

    def _take(self, rows: list[Any]) -> None:
        # Reading a statement without rows is an error that the driver raises.
        self._exhausted = len(rows) < self._size and self._cursor.description is not None
        self._rows = rows[::-1]

    def fetchone(self) -> Any:
        """The next row, or None."""
        if not self._rows and not self._exhausted:
            self._read()
        return self._rows.pop() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next `size` rows, fewer at the end."""
        wanted = self._cursor.arraysize if size is None else size
        rows: list[Any] = []
        while len(rows) < wanted:
            if not self._rows:
                if self._exhausted:
                    break
                self._read()
                if not self._rows:
                    break
            take = wanted - len(rows)
            rows += self._rows[: -take - 1 : -1]
            del self._rows[-take:]
        return rows

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        rows = self._rows[::-1]
        self._rows = []
        if not self._exhausted:
            rows += self._calls.call(self._cursor.fetchall)
            self._exhausted = True
        return rows

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row
