"""SQLite through aiosqlite: its thread per connection, one hop per statement with its first rows.

SQLite has no non-blocking interface. Inside the bridge Django's backend opens its connection in an
aiosqlite thread and keeps using the real `sqlite3.Connection`; what reads or writes the file is
sent to that thread. Waiting for another process's lock (the `timeout` option) happens there too, so
the loop goes on. A cancelled task interrupts its statement.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any, cast

import aiosqlite
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import in_bridge, wait
from django_aio.db.backends.threaded import HopCursor, KeepsNothing
from django_aio.db.pool import CLOSE_TIMEOUT, store, watched_store
from django_aio.db.state import State

# How long a cancelled task waits for its interrupted statement, in seconds.
INTERRUPT_TIMEOUT = 5.0

if not hasattr(aiosqlite.Connection, "_execute"):
    raise ImproperlyConfigured(
        f"django-aio cannot use aiosqlite {aiosqlite.__version__}: its Connection has no "
        "_execute(). Install a version that 'pip install django-aio[sqlite]' allows."
    )


class SQLiteDriver(KeepsNothing):
    """How a chain judges and drops a SQLite connection."""

    def adopt(self, wrapper: Any) -> None:
        """Its connection gets a thread when it is first used inside the bridge."""
        shared = wrapper.aio.loop is not None and wrapper.is_in_memory_db()
        wrapper.aio.pooled = wrapper.aio.shared = shared

    def is_idle(self, wrapper: Any) -> bool:
        """Whether no transaction is open. sqlite3 knows without touching the file."""
        return not wrapper.connection.in_transaction

    def drop(self, wrapper: Any) -> None:
        """Have the thread close the connection and end; SQLite rolls back what is open."""
        worker, connection = wrapper.aio.worker, wrapper.connection
        wrapper.connection = wrapper.aio.worker = None
        if wrapper.aio.shared:
            returning = wrapper.aio.loop.create_task(wrapper.aio.pool.give_back())
            _returning.add(returning)
            returning.add_done_callback(_returning.discard)
            return
        if worker is not None:
            _stop(worker)
        elif connection is not None:
            connection.close()  # opened by a guest thread, never used on the loop


# Tasks need a reference until they are done.
_returning: set[asyncio.Task[None]] = set()


def _stop(worker: aiosqlite.Connection) -> None:
    """Have the thread close its connection and end. The loop's store waits for it at the end."""
    ended = worker.stop()
    if ended is not None:
        store().ending.add(ended)
        ended.add_done_callback(store().ending.discard)


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


async def open_worker(worker: aiosqlite.Connection) -> None:
    """Open the connection. Cancelled meanwhile, close it as soon as it is open."""
    # A process that ends without closing its loop must not wait for the thread.
    worker._thread.daemon = True
    opened: list[Any] = []
    abandoned = threading.Event()
    connect = worker._connector

    def connector() -> Any:
        opened.append(connect())
        if abandoned.is_set():
            opened[0].close()
        return opened[0]

    def close_if_abandoned(opening: asyncio.Future[Any]) -> None:
        # The loop has ended meanwhile: aiosqlite drops the connection without closing it.
        if opening.cancelled():
            abandoned.set()
            for connection in opened:
                connection.close()

    worker._connector = connector
    opening = asyncio.ensure_future(worker)
    opening.add_done_callback(close_if_abandoned)
    try:
        await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(lambda _: _stop(worker))
        raise


def create_cursor(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper.create_cursor`: a cursor that executes and reads in the thread."""

    @functools.wraps(upstream)
    def create_cursor(self: Any, name: str | None = None) -> Any:
        cursor = upstream(self, name)
        worker = worker_of(self)
        return cursor if worker is None else HopCursor(cursor, functools.partial(_hop, self))

    return create_cursor


def _hop(wrapper: Any, func: Callable[..., Any], *args: Any) -> Any:
    return wait(_call(wrapper, func, *args))


async def _call(wrapper: Any, func: Callable[..., Any], *args: Any) -> Any:
    """Call `func` in the thread. Cancelled meanwhile, interrupt the statement and wait for its end.

    aiosqlite's own methods would each take a hop and read one row at a time; `_execute()` is how
    they send a function to the thread.
    """
    worker = wrapper.aio.worker
    try:
        return await worker._execute(func, *args)
    except asyncio.CancelledError:
        worker._conn.interrupt()
        try:
            # The thread takes one call after another: when it comes to this one the other is over.
            async with asyncio.timeout(INTERRUPT_TIMEOUT):
                await worker._execute(lambda: None)
        except (asyncio.CancelledError, TimeoutError):
            # Not provably idle: the thread closes it as soon as it is free. An interruption does
            # not end the wait for another process's lock.
            _lose(wrapper)
        raise


def _lose(wrapper: Any) -> None:
    """Go on without a connection whose thread is busy; it is closed when the thread is free."""
    worker, wrapper.aio.worker, wrapper.connection = wrapper.aio.worker, None, None
    if wrapper.in_atomic_block:
        wrapper.closed_in_transaction = wrapper.needs_rollback = True
    if worker is not None:
        _stop(worker)


def transactional(name: str) -> Callable[..., Any]:
    """A method of `BaseDatabaseWrapper` that ends a transaction: the thread writes to the file."""
    inherited = getattr(BaseDatabaseWrapper, name)

    @functools.wraps(inherited)
    def method(self: Any) -> Any:
        worker = worker_of(self)
        if worker is None:
            return inherited(self)
        return _hop(self, inherited, self)

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
            _hop(self, upstream, self, autocommit)

    return _set_autocommit


_inherited_close: Callable[[Any], None] = vars(BaseDatabaseWrapper)["_close"]


def _close(self: Any) -> None:
    """`DatabaseWrapper._close`: the thread closes the connection, then ends."""
    state = self.aio
    if state is None or state.worker is None:
        _inherited_close(self)
        return
    worker, state.worker = state.worker, None
    if state.shared:
        self.connection = None
        state.settle(state.pool.give_back())
    elif in_bridge():
        with self.wrap_database_errors:
            wait(worker.close())
    else:
        # A guest thread closes it. stop() asks for the loop of its thread, so it gets one without.
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        stopping.join(CLOSE_TIMEOUT)
        worker._thread.join(CLOSE_TIMEOUT)
