"""SQLite through aiosqlite: its thread per connection, one hop per statement with its first rows.

SQLite has no non-blocking interface. Inside the bridge Django's backend opens its connection in an
aiosqlite thread and keeps using the real `sqlite3.Connection`; what reads or writes the file is
sent to that thread. Waiting for another process's lock (the `timeout` option) happens there too, so
the loop goes on. A cancelled task interrupts its statement.

Guests use the connection in their own threads. Whoever is inside SQLite with it holds its lock, and
it is closed under that lock, after an interruption: to close it under a running statement would
crash the process.
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
from typing import Any, cast

import aiosqlite
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import InterfaceError

from django_aio.bridge import in_bridge, wait
from django_aio.db.backends.driver import ROWS_GONE, SimpleDriver
from django_aio.db.backends.locked import LockedConnection
from django_aio.db.backends.threaded import HopCursor
from django_aio.db.gates import lose_transaction
from django_aio.db.pool import CLOSE_TIMEOUT, store, watched_store
from django_aio.db.shield import put_off, to_its_end, until_done
from django_aio.db.state import State, on_loop

# How long a cancelled task waits for its interrupted statement, in seconds.
INTERRUPT_TIMEOUT = 5.0

try:
    from aiosqlite.core import _STOP_RUNNING_SENTINEL
except ImportError as error:
    raise ImproperlyConfigured(
        f"django-aio cannot use aiosqlite {aiosqlite.__version__}: its threads work differently. "
        "Install a version that 'pip install django-aio[sqlite]' allows."
    ) from error


def _in_transaction(connection: Any) -> bool | None:
    """Whether a transaction is open; None if the connection is closed."""
    try:
        return None if connection is None else bool(connection.in_transaction)
    except sqlite3.ProgrammingError:
        return None


def _inside(connection: Any) -> Any:
    """The lock of a connection. One of a project's own `factory` has none."""
    return getattr(connection, "inside", None) or contextlib.nullcontext()


class SQLiteDriver(SimpleDriver):
    """How a chain judges and drops a SQLite connection."""

    def adopt(self, wrapper: Any) -> None:
        """Its connection gets a thread when it is first used inside the bridge."""
        shared = wrapper.aio.loop is not None and wrapper.is_in_memory_db()
        wrapper.aio.pooled = wrapper.aio.shared = shared

    def is_idle(self, wrapper: Any) -> bool:
        """Whether no transaction is open. sqlite3 knows without touching the file."""
        return _in_transaction(wrapper.connection) is False

    def is_lost(self, wrapper: Any) -> bool:
        """Whether the connection was closed under the wrapper."""
        return _in_transaction(wrapper.connection) is None

    def is_intact(self, wrapper: Any) -> bool:
        """Whether the transaction is open: a write that was interrupted has rolled it back."""
        return _in_transaction(wrapper.connection) is True

    def drop(self, wrapper: Any) -> None:
        """Have the thread close the connection and end; SQLite rolls back what is open."""
        state = wrapper.aio
        worker, connection = state.worker, wrapper.connection
        wrapper.connection = state.worker = None
        if state.shared:
            on_loop(state.loop, _give_back, state.pool, otherwise=_nothing)
        else:
            close_soon(state.loop, worker, connection)

    sever = drop

    def connected(self, wrapper: Any) -> None:
        """What Django and its receivers have set is no chain's."""
        if isinstance(wrapper.connection, LockedConnection):
            wrapper.connection.touched = False

    def may_stay_open(self, wrapper: Any) -> bool:
        """Whether no project has used it past Django."""
        connection = wrapper.connection
        if isinstance(connection, LockedConnection) and connection.touched:
            return False
        return connection.row_factory is None and connection.text_factory is str

    def has_free(self, wrapper: Any) -> bool:
        """Whether nobody has the one connection of an in-memory database."""
        pool = store(wrapper.aio.loop).pools.get(wrapper.alias) if wrapper.aio.shared else None
        return pool is None or pool.is_free()  # type: ignore[attr-defined]

    def interrupt(self, wrapper: Any) -> None:
        """Interrupt the statement that runs now."""
        if wrapper.connection is not None:
            _interrupt(wrapper.connection)


def _give_back(pool: Any) -> None:
    store().start(pool.give_back())


def _nothing() -> None:
    """The one connection of an in-memory database has closed with its loop."""


def _interrupt(connection: Any) -> None:
    with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
        connection.interrupt()


def _close_inside(connection: Any) -> None:
    """Close a connection when nobody is inside it any more. Blocks."""
    with _inside(connection):
        connection.close()


def close_soon(loop: Any, worker: aiosqlite.Connection | None, connection: Any) -> None:
    """Interrupt what the connection does, wait for that in a thread, and close it there."""
    if connection is not None:
        _interrupt(connection)
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
    worker: aiosqlite.Connection, connection: Any, ended: asyncio.Future[None] | None
) -> object:
    """In the thread: close the connection, and say that this was the last call.

    Not by `worker.stop()`: its future would be told on a loop that may be closed by then.
    """
    try:
        if connection is not None or worker._connection is not None:
            _close_inside(connection or worker._connection)
    finally:
        worker._connection = None
        if ended is not None:
            with contextlib.suppress(RuntimeError):
                ended.get_loop().call_soon_threadsafe(_set, ended, asyncio.Future.set_result, None)
    return _STOP_RUNNING_SENTINEL


class SQLiteCalls:
    """The calls of one physical connection: in its thread inside the bridge, elsewhere directly.

    Belongs to that connection, whatever the chain has by now (R7). Used by one chain, one call at a
    time; `soon()` by any thread.
    """

    def __init__(self, wrapper: Any, worker: aiosqlite.Connection) -> None:
        self._wrapper = wrapper
        self._worker = worker
        self._connection = wrapper.connection

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func` and wait for what it returns."""
        if in_bridge():
            if _in_transaction(self._connection) is None:
                raise InterfaceError(ROWS_GONE)
            return wait(_call(self._wrapper, self._worker, func, *args))
        return _locked(self._connection, func, *args)

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

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func` in this thread."""
        return _locked(self._connection, func, *args)

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Call `func` in a thread that may wait for whoever is inside."""
        if asyncio._get_running_loop() is None:
            _end(self._connection, func)
        else:
            work = functools.partial(_end, self._connection, func)
            threading.Thread(target=work, daemon=True).start()


def _locked(connection: Any, func: Callable[..., Any], *args: Any) -> Any:
    with _inside(connection):
        if _in_transaction(connection) is None:
            raise InterfaceError(ROWS_GONE)
        return func(*args)


def _end(connection: Any, func: Callable[[], object]) -> None:
    """Call what ends something, unless it has ended with the connection."""
    with contextlib.suppress(sqlite3.Error, InterfaceError):
        _locked(connection, func)


def worker_of(wrapper: Any) -> aiosqlite.Connection | None:
    """The thread that this call must go to, or None if it is to be made directly.

    Directly: outside the bridge, and on the connection of a plain thread, which only blocks the
    one-off loop that runs for that thread. A connection that a guest thread opened gets its thread
    here.
    """
    state = wrapper.aio
    if state is None or state.loop is None or not in_bridge():
        return None
    if state.worker is None and wrapper.connection is not None:
        connection = wrapper.connection
        state.worker = _new_worker(wrapper, lambda: connection)
    return cast("aiosqlite.Connection | None", state.worker)


def _new_worker(wrapper: Any, connector: Callable[[], Any]) -> aiosqlite.Connection:
    watched_store(wrapper)
    worker = aiosqlite.Connection(connector, 64)
    wait(open_worker(worker))
    return worker


def get_new_connection(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper.get_new_connection`: inside the bridge, open the file in a new thread."""

    @functools.wraps(upstream)
    def get_new_connection(self: Any, conn_params: dict[str, Any]) -> Any:
        if in_bridge() or self.aio is not None:
            conn_params.setdefault("factory", LockedConnection)
        if in_bridge() and (self.aio is None or self.aio.chain is None):
            # No chain's: a copy, or of another handler. Whoever made it closes it.
            self.aio = State(None, SQLiteDriver(), asyncio.get_running_loop())
        if self.aio is not None and self.aio.shared:
            return _lease(self, functools.partial(upstream, self, conn_params))
        if self.aio is None or self.aio.loop is None or not in_bridge():
            return upstream(self, conn_params)
        self.aio.worker = _new_worker(self, functools.partial(upstream, self, conn_params))
        return self.aio.worker._conn

    return get_new_connection


def _lease(wrapper: Any, connector: Callable[[], Any]) -> Any:
    """Lease the one connection of an in-memory database."""
    from django_aio.db.backends.memory import memory_pool

    state = wrapper.aio
    state.pool = memory_pool(wrapper)
    state.worker = state.settle(state.pool.take(connector))
    return state.worker._conn


def _errand(func: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """What a thread is to call once, in the context of who sends it.

    Tracers, and a project's functions in SQL, look for their context variables there. A thread
    remembers what it has called last, so afterwards nothing is left in it.
    """
    work = [contextvars.copy_context().run, func, *args]

    def run() -> Any:
        call, *rest = work
        work.clear()
        return call(*rest)

    return run


async def open_worker(worker: aiosqlite.Connection) -> None:
    """Open the connection in its thread. Cancelled meanwhile, close it as soon as it is open.

    Not by awaiting `worker`: the end of the loop would cancel that, and leave the thread alone.
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
    """In the thread: connect, and tell the loop. If that has ended, so does the thread."""
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


def create_cursor(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper.create_cursor`: a cursor that executes and reads in the thread."""

    @functools.wraps(upstream)
    def create_cursor(self: Any, name: str | None = None) -> Any:
        cursor = upstream(self, name)
        worker = worker_of(self)
        if worker is not None:
            return HopCursor(cursor, SQLiteCalls(self, worker))
        if self.aio is not None and self.aio.loop is not None:
            return HopCursor(cursor, GuestCalls(self.connection))
        return cursor

    return create_cursor


async def _call(
    wrapper: Any, worker: aiosqlite.Connection, func: Callable[..., Any], *args: Any
) -> Any:
    """Call `func` in the thread. Cancelled meanwhile, interrupt the statement and wait for its end.

    aiosqlite's own methods would each take a hop and read one row at a time; its queue is how they
    send a function to the thread.
    """
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
            _interrupt(connection)
        # An interruption does not end the wait for another process's lock. And a connection that
        # is not provably idle is closed, as soon as its thread is free.
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
    calling: asyncio.Future[Any], connection: Any, func: Callable[..., Any], *args: Any
) -> None:
    """In the thread: call `func` and tell the loop, unless that has ended."""
    try:
        tell = functools.partial(_set, calling, asyncio.Future.set_result)
        tell = functools.partial(tell, _locked(connection, func, *args))
    except BaseException as error:
        tell = functools.partial(_set, calling, asyncio.Future.set_exception, error)
    with contextlib.suppress(RuntimeError):
        calling.get_loop().call_soon_threadsafe(tell)


def _set(calling: asyncio.Future[Any], method: Callable[..., None], answer: Any) -> None:
    if not calling.done():
        method(calling, answer)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Look at an exception that nobody asks for, so that asyncio does not report it."""
    if not future.cancelled():
        future.exception()


def _lose(wrapper: Any, worker: aiosqlite.Connection) -> None:
    """Go on without a connection whose thread is busy; it is closed when the thread is free."""
    if wrapper.aio is None or wrapper.aio.worker is not worker:
        return  # it has another one by now
    lose_transaction(wrapper)
    wrapper.aio.driver.drop(wrapper)


def transactional(name: str) -> Callable[..., Any]:
    """A method of `BaseDatabaseWrapper` that ends a transaction: the thread writes to the file."""
    inherited = getattr(BaseDatabaseWrapper, name)

    @functools.wraps(inherited)
    def method(self: Any) -> Any:
        worker = worker_of(self)
        if worker is None:
            if self.aio is None or self.connection is None:
                return inherited(self)
            return _locked(self.connection, inherited, self)
        return SQLiteCalls(self, worker).call(inherited, self)

    method.__doc__ = f"`DatabaseWrapper.{name}`: in the thread."
    return method


_commit = transactional("_commit")
_rollback = transactional("_rollback")


def set_autocommit(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper._set_autocommit`: sqlite3 commits an open transaction on the way."""

    @functools.wraps(upstream)
    def _set_autocommit(self: Any, autocommit: bool) -> None:
        worker = worker_of(self)
        if worker is None or not self.connection.in_transaction:
            upstream(self, autocommit)
        else:
            SQLiteCalls(self, worker).call(upstream, self, autocommit)

    return _set_autocommit


_inherited_close: Callable[[Any], None] = vars(BaseDatabaseWrapper)["_close"]


def _close(self: Any) -> None:
    """`DatabaseWrapper._close`: the thread closes the connection, then ends."""
    state = self.aio
    if state is None or state.worker is None:
        _inherited_close(self)
        return
    worker, connection = state.worker, self.connection
    if state.shared:
        self.connection = state.worker = None
        state.settle(state.pool.give_back())
    elif in_bridge():
        state.worker = None
        with self.wrap_database_errors:
            wait(_close_in_thread(worker, connection))
    else:
        state.worker = None
        close_soon(state.loop, worker, connection)
        worker._thread.join(CLOSE_TIMEOUT)


async def _close_in_thread(worker: aiosqlite.Connection, connection: Any) -> None:
    if connection is not None:
        worker._tx.put_nowait((None, functools.partial(_close_inside, connection)))
    await to_its_end(worker.close(), CLOSE_TIMEOUT)
