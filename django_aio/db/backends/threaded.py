"""Drivers that block: their calls go to a thread, one hop per statement with its first rows.

Used as it stands for engines without a cooperative driver (Oracle, psycopg2, a third party's), and
by the SQLite driver, whose thread is aiosqlite's. Django's backend sees the driver's own connection
object; only its blocking methods and its cursors are sent to the thread.

Inside the bridge the calls hop; anywhere else they are made directly, as without us. A chain makes
one call at a time, so the driver never sees two threads at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import in_bridge, wait
from django_aio.db.backends.driver import Driver, SimpleDriver
from django_aio.utils.asyncio import to_its_end

# Django fetches by 100 rows (GET_ITERATOR_CHUNK_SIZE): a query of one page costs one hop.
FIRST_ROWS = 100
MOST_ROWS = 2000

# The methods of a backend that reach the server through the driver itself. Everything else goes
# through a cursor.
BLOCKING = (
    "get_new_connection",
    "init_connection_state",
    "is_usable",
    "_set_autocommit",
    "_commit",
    "_rollback",
    "_close",
)


class ThreadedDriver(SimpleDriver):
    """The driver of an engine that nobody has made cooperative."""

    def adopt(self, wrapper: Any) -> None:
        """Send its blocking calls to a thread when they are made inside the bridge."""
        if "create_cursor" not in vars(wrapper):
            _send_to_threads(wrapper)

    def is_idle(self, wrapper: BaseDatabaseWrapper) -> bool:
        """As far as Django knows: such a driver cannot be asked without blocking."""
        return not wrapper.in_atomic_block and wrapper.autocommit

    def drop(self, wrapper: Any) -> None:
        """Close it in a thread. The server rolls an open transaction back."""
        connection, wrapper.connection = wrapper.connection, None
        threading.Thread(target=connection.close, daemon=True).start()

    sever = drop

    def interrupt(self, wrapper: BaseDatabaseWrapper) -> None:
        """Such a driver cannot be interrupted."""


def driver_of(engine: type[BaseDatabaseWrapper]) -> Driver:
    """The driver of a backend class.

    Cooperative for Django's PostgreSQL and SQLite backends and all that derive from them, else a
    thread.
    """
    if engine not in _drivers:
        _drivers[engine] = _find_driver(engine)
    return _drivers[engine]


_drivers: dict[type[BaseDatabaseWrapper], Driver] = {}


def _find_driver(engine: type[BaseDatabaseWrapper]) -> Driver:
    from django_aio.series import apply_backend

    for cls in engine.__mro__:
        if cls.__module__ == "django.db.backends.sqlite3.base":
            apply_backend(cls.__module__)
            from django_aio.db.backends.sqlite3 import SQLiteDriver

            return SQLiteDriver()
        if cls.__module__ == "django.db.backends.postgresql.base":
            from django.db.backends.postgresql.psycopg_any import is_psycopg3

            if not is_psycopg3:
                break
            apply_backend(cls.__module__)
            from django_aio.db.backends.postgresql.driver import PostgreSQLDriver

            return PostgreSQLDriver()
    return ThreadedDriver()


class Calls(Protocol):
    """How the calls of one driver's connection are made."""

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func` where it may block, and wait for what it returns."""

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Call `func` without waiting, before or after what is called next.

        `quick` if it asks nobody anything.
        """


class ThreadCalls:
    """Calls in a thread of the loop's default executor inside the bridge, elsewhere where they are.

    Used by one chain, one call at a time; `soon()` by any thread.
    """

    def __init__(self) -> None:
        self._left: deque[Callable[[], object]] = deque()

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func`, after what was left to do."""
        if not in_bridge():
            return self._call(func, *args)
        # The driver cannot be interrupted, and nobody else may use its connection meanwhile.
        return wait(to_its_end(asyncio.to_thread(self._call, func, *args)))

    def _call(self, func: Callable[..., Any], *args: Any) -> Any:
        while self._left:
            with contextlib.suppress(Exception):
                self._left.popleft()()
        return func(*args)

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Leave it to the next call, where this thread runs a loop that may not wait."""
        if quick or asyncio._get_running_loop() is None:
            func()
        else:
            self._left.append(func)


def _send_to_threads(wrapper: Any) -> None:
    """Send the blocking calls of this one wrapper to a thread."""
    calls = ThreadCalls()
    for name in BLOCKING:
        setattr(wrapper, name, functools.partial(calls.call, getattr(wrapper, name)))
    create_cursor = wrapper.create_cursor

    def cooperative_cursor(name: str | None = None) -> Any:
        return HopCursor(create_cursor(name), calls) if in_bridge() else create_cursor(name)

    wrapper.create_cursor = cooperative_cursor


class HopCursor:
    """A driver's cursor whose blocking calls go to a thread.

    `execute()` brings the first rows back with it; further rows come in growing batches. Every
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
        if name in HopCursor.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._cursor, name, value)

    def __enter__(self) -> HopCursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def execute(self, *args: Any) -> HopCursor:
        """Run one statement and read its first rows, in one hop."""
        self._forget_rows()
        self._take(self._calls.call(self._execute, "execute", *args))
        return self

    def executemany(self, *args: Any) -> HopCursor:
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
        # A statement without rows is left to the driver to complain about when it is read.
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
