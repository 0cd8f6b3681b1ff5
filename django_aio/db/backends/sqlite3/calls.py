"""The calls of one SQLite connection: in the connection's thread, or in the caller's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiosqlite
from django.db.utils import InterfaceError

from django_aio.bridge import in_bridge, wait
from django_aio.db.backends.driver import ROWS_GONE
from django_aio.db.backends.sqlite3.worker import call_in, in_transaction, locked

if TYPE_CHECKING:
    from django_aio.db.types import Wrapper


class SQLiteCalls:
    """The calls of one physical connection: in its thread inside the bridge, else directly.

    Belongs to that connection, even if the chain has another one by now (R7). Used by one chain,
    one call at a time; `soon()` by any thread.
    """

    def __init__(self, wrapper: Wrapper, worker: aiosqlite.Connection) -> None:
        self._wrapper = wrapper
        self._worker = worker
        self._connection = wrapper.connection

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func` and wait for its result."""
        if in_bridge():
            if in_transaction(self._connection) is None:
                raise InterfaceError(ROWS_GONE)
            return wait(call_in(self._wrapper, self._worker, func, *args))
        return locked(self._connection, func, *args)

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Call `func` now if nobody is inside the connection, else in its thread."""
        inside = getattr(self._connection, "inside", None)
        if inside is not None and inside.acquire(blocking=False):
            try:
                with contextlib.suppress(sqlite3.Error):
                    func()
            finally:
                inside.release()
        else:
            self._worker._tx.put_nowait((None, functools.partial(_end, self._connection, func)))


class GuestCalls:
    """The calls of a connection that only threads have used so far."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func` in this thread."""
        return locked(self._connection, func, *args)

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Call `func` in a thread that may wait for whoever is inside."""
        if asyncio._get_running_loop() is None:
            _end(self._connection, func)
        else:
            work = functools.partial(_end, self._connection, func)
            threading.Thread(target=work, daemon=True).start()


def _end(connection: sqlite3.Connection, func: Callable[[], object]) -> None:
    """Call `func`, which ends something, unless that has ended with the connection."""
    with contextlib.suppress(sqlite3.Error, InterfaceError):
        locked(connection, func)
