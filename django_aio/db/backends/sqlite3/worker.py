"""The aiosqlite thread of a SQLite connection: how it opens, works, and ends.

aiosqlite's own methods would each go to the thread and read one row at a time. Their queue sends a
function to the thread, and is used here directly. Whoever is inside SQLite with a connection holds
the connection's lock. It is closed under that lock, after an interruption: closing it under a
running statement would crash the process. Guarded by `tests/db/backends/sqlite3`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiosqlite
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import InterfaceError

from django_aio.db.backends.driver import ROWS_GONE
from django_aio.db.blocks import lose_transaction
from django_aio.db.shield import await_within, put_off, until_done
from django_aio.loops import CLOSE_TIMEOUT, store

if TYPE_CHECKING:
    from django_aio.db.types import Wrapper

# How long a cancelled task waits for its interrupted statement, in seconds.
INTERRUPT_TIMEOUT = 5.0

try:
    from aiosqlite.core import _STOP_RUNNING_SENTINEL
except ImportError as error:
    raise ImproperlyConfigured(
        f"django-aio cannot use aiosqlite {aiosqlite.__version__}: its threads work differently. "
        "Install a version that 'pip install django-aio[sqlite]' allows."
    ) from error


def in_transaction(connection: sqlite3.Connection | None) -> bool | None:
    """Whether a transaction is open; None if the connection is closed."""
    try:
        return None if connection is None else bool(connection.in_transaction)
    except sqlite3.ProgrammingError:
        return None


def _inside(connection: sqlite3.Connection) -> Any:
    """The lock of a connection. One of a project's own `factory` has none."""
    return getattr(connection, "inside", None) or contextlib.nullcontext()


def locked(connection: sqlite3.Connection, func: Callable[..., Any], *args: Any) -> Any:
    """Call `func` inside the connection's lock. Raises InterfaceError if it has closed."""
    with _inside(connection):
        if in_transaction(connection) is None:
            raise InterfaceError(ROWS_GONE)
        return func(*args)


def interrupt(connection: sqlite3.Connection) -> None:
    """Interrupt the connection's running statement. Any thread."""
    with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
        connection.interrupt()


def _errand(func: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """Make a function for a thread to call once, in the context of the running task.

    Tracers, and a project's SQL functions, look for their context variables there. The thread keeps
    a reference to the function that it has called last, so that forgets its arguments.
    """
    work = [contextvars.copy_context().run, func, *args]

    def run() -> Any:
        call, *rest = work
        work.clear()
        return call(*rest)

    return run


async def open_worker(worker: aiosqlite.Connection) -> None:
    """Open the connection in its thread. If cancelled meanwhile, close it as soon as it is open.

    Does not await `worker`: the end of the loop would cancel that, and leave the thread running.
    """
    # A process that ends without closing its loop must not wait for the thread.
    worker._thread.daemon = True
    worker._thread.start()
    opening: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    worker._tx.put_nowait((None, _errand(_open_inside, worker._connector, opening)))
    try:
        worker._connection = await asyncio.shield(opening)
    except asyncio.CancelledError:
        ending = store().ending
        ending.add(opening)
        opening.add_done_callback(ending.discard)
        opening.add_done_callback(functools.partial(_close_opened, worker))
        raise
    except BaseException:
        close_soon(None, worker, None)
        raise


def _open_inside(connector: Callable[[], Any], opening: asyncio.Future[Any]) -> object:
    """Connect in the thread, and tell the loop. If the loop has ended, so does the thread."""
    connection = None
    try:
        connection = connector()
        answer: tuple[Any, Any] = asyncio.Future.set_result, connection
    except BaseException as error:
        answer = asyncio.Future.set_exception, error
    try:
        opening.get_loop().call_soon_threadsafe(_set, opening, *answer)
    except RuntimeError:
        if connection is not None:
            connection.close()
        return _STOP_RUNNING_SENTINEL
    return None


def _close_opened(worker: aiosqlite.Connection, opening: asyncio.Future[Any]) -> None:
    connection = None if opening.exception() is not None else opening.result()
    close_soon(opening.get_loop(), worker, connection)


async def call_in(
    wrapper: Wrapper, worker: aiosqlite.Connection, func: Callable[..., Any], *args: Any
) -> Any:
    """Call `func` in the thread. If cancelled, interrupt the statement and wait for its end."""
    connection = worker._conn
    calling = asyncio.get_running_loop().create_future()
    worker._tx.put_nowait((None, _errand(_answer, calling, connection, func, *args)))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError as error:
        if calling.cancelled():
            raise
        shield = put_off(error)
        if shield is None:
            interrupt(connection)
        # An interruption does not end the wait for another process's lock. A connection that is
        # not provably idle is closed as soon as its thread is free.
        deadline = shield.deadline if shield is not None else time.monotonic() + INTERRUPT_TIMEOUT
        if not await until_done(calling, deadline) or calling.cancelled():
            calling.add_done_callback(_look_at)
            _lose(wrapper, worker)
        elif shield is not None:
            return calling.result()
        else:
            _look_at(calling)
        raise


def _answer(
    calling: asyncio.Future[Any],
    connection: sqlite3.Connection,
    func: Callable[..., Any],
    *args: Any,
) -> None:
    """Call `func` in the thread and tell the loop, unless the loop has ended."""
    try:
        tell = functools.partial(_set, calling, asyncio.Future.set_result)
        tell = functools.partial(tell, locked(connection, func, *args))
    except BaseException as error:
        tell = functools.partial(_set, calling, asyncio.Future.set_exception, error)
    with contextlib.suppress(RuntimeError):
        calling.get_loop().call_soon_threadsafe(tell)


def _set(calling: asyncio.Future[Any], method: Callable[..., None], answer: object) -> None:
    if not calling.done():
        method(calling, answer)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Look at an exception that nobody asks for, so that asyncio does not report it."""
    if not future.cancelled():
        future.exception()


def _lose(wrapper: Wrapper, worker: aiosqlite.Connection) -> None:
    """Go on without a connection whose thread is busy; it is closed when the thread is free."""
    if wrapper.aio is None or wrapper.aio.worker is not worker:
        return  # the wrapper has another connection by now
    lose_transaction(wrapper)
    wrapper.aio.driver.drop(wrapper)


def _close_inside(connection: sqlite3.Connection) -> None:
    """Close a connection when nobody is inside it any more. Blocks."""
    with _inside(connection):
        connection.close()


async def close_in_thread(
    worker: aiosqlite.Connection, connection: sqlite3.Connection | None
) -> None:
    """Close the connection in its thread, and wait for the end of both."""
    if connection is not None:
        worker._tx.put_nowait((None, functools.partial(_close_inside, connection)))
    await await_within(worker.close(), CLOSE_TIMEOUT)


def close_soon(
    loop: asyncio.AbstractEventLoop | None,
    worker: aiosqlite.Connection | None,
    connection: sqlite3.Connection | None,
) -> None:
    """Interrupt the connection's statement, wait for its end in a thread, and close there."""
    if connection is not None:
        interrupt(connection)
    if worker is None:
        if connection is not None:
            threading.Thread(target=_close_inside, args=(connection,), daemon=True).start()
        return
    running = asyncio._get_running_loop()
    ended = None
    if running is not None and running is loop:
        ended = running.create_future()
        store().ending.add(ended)
        ended.add_done_callback(store().ending.discard)
    worker._running = False
    worker._tx.put_nowait((None, functools.partial(_end_thread, worker, connection, ended)))


def _end_thread(
    worker: aiosqlite.Connection,
    connection: sqlite3.Connection | None,
    ended: asyncio.Future[None] | None,
) -> object:
    """Close the connection in the thread, and return the mark of the last call.

    Does not use `worker.stop()`, whose future belongs to a loop that may be closed by then.
    """
    try:
        opened = connection or worker._connection
        if opened is not None:
            _close_inside(opened)
    finally:
        worker._connection = None
        if ended is not None:
            with contextlib.suppress(RuntimeError):
                ended.get_loop().call_soon_threadsafe(_set, ended, asyncio.Future.set_result, None)
    return _STOP_RUNNING_SENTINEL
