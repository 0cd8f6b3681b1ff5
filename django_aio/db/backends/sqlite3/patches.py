"""SQLite through aiosqlite: a thread per connection, one call there per statement.

SQLite has no non-blocking interface. Inside the bridge Django's backend opens its connection in an
aiosqlite thread and keeps using the real `sqlite3.Connection`; calls that read or write the file go
to that thread. The wait for another process's lock (the `timeout` option) happens there too, so the
loop goes on. A cancelled task interrupts its statement.

Guests use the connection in their own threads. Whoever is inside SQLite with a connection holds the
connection's lock. It is closed under that lock, after an interruption: closing it under a running
statement would crash the process. Guarded by `tests/db/backends/sqlite3`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiosqlite
from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import in_bridge, wait
from django_aio.db.backends.sqlite3.calls import GuestCalls, SQLiteCalls
from django_aio.db.backends.sqlite3.connection import LockedConnection
from django_aio.db.backends.sqlite3.driver import SQLiteDriver
from django_aio.db.backends.sqlite3.memory import memory_pool
from django_aio.db.backends.sqlite3.worker import close_in_thread, close_soon, locked, open_worker
from django_aio.db.backends.thread_cursor import ThreadCursor
from django_aio.db.idle import watched_store
from django_aio.db.state import State
from django_aio.loops import CLOSE_TIMEOUT

if TYPE_CHECKING:
    from django_aio.db.types import Managed, Wrapper


def worker_of(wrapper: Wrapper) -> aiosqlite.Connection | None:
    """The thread that this call must go to, or None if it is to be made directly.

    It is made directly outside the bridge, and on the connection of a plain thread, where it blocks
    only the one-off loop that runs for that thread. A connection that a guest thread has opened
    gets its thread here.
    """
    if wrapper.aio is None or wrapper.aio.loop is None or not in_bridge():
        return None
    state = wrapper.aio
    if state.worker is None and wrapper.connection is not None:
        connection = wrapper.connection
        state.worker = _new_worker(wrapper, lambda: connection)
    return state.worker


def _new_worker(wrapper: Managed, connector: Callable[[], Any]) -> aiosqlite.Connection:
    watched_store(wrapper)
    worker = aiosqlite.Connection(connector, 64)
    wait(open_worker(worker))
    return worker


def get_new_connection(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper.get_new_connection`: inside the bridge, open the file in a new thread."""

    @functools.wraps(upstream)
    def get_new_connection(self: Wrapper, conn_params: dict[str, Any]) -> Any:
        if in_bridge() or self.aio is not None:
            conn_params.setdefault("factory", LockedConnection)
        if in_bridge() and (self.aio is None or self.aio.chain is None):
            # A copy, or the connection of another handler, is not a chain's. Its maker closes it.
            self.aio = State(None, SQLiteDriver(), asyncio.get_running_loop())
        if self.aio is not None and self.aio.shared:
            return _lease(self, functools.partial(upstream, self, conn_params))
        if self.aio is None or self.aio.loop is None or not in_bridge():
            return upstream(self, conn_params)
        self.aio.worker = _new_worker(self, functools.partial(upstream, self, conn_params))
        return self.aio.worker._conn

    return get_new_connection


def _lease(wrapper: Managed, connector: Callable[[], Any]) -> Any:
    """Lease the one connection of an in-memory database."""
    state = wrapper.aio
    state.pool = memory_pool(wrapper)
    state.worker = state.wait_on_loop(state.pool.take(connector))
    return state.worker._conn


def create_cursor(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper.create_cursor`: a cursor that executes and reads in the thread."""

    @functools.wraps(upstream)
    def create_cursor(self: Wrapper, name: str | None = None) -> Any:
        cursor = upstream(self, name)
        worker = worker_of(self)
        if worker is not None:
            return ThreadCursor(cursor, SQLiteCalls(self, worker))
        if self.aio is not None and self.aio.loop is not None:
            return ThreadCursor(cursor, GuestCalls(self.connection))
        return cursor

    return create_cursor


def transactional(name: str) -> Callable[..., Any]:
    """Wrap a method of `BaseDatabaseWrapper` that ends a transaction: it writes in the thread."""
    inherited = getattr(BaseDatabaseWrapper, name)

    @functools.wraps(inherited)
    def method(self: Wrapper) -> Any:
        worker = worker_of(self)
        if worker is None:
            if self.aio is None or self.connection is None:
                return inherited(self)
            return locked(self.connection, inherited, self)
        return SQLiteCalls(self, worker).call(inherited, self)

    method.__doc__ = f"`DatabaseWrapper.{name}`: in the thread."
    return method


_commit = transactional("_commit")
_rollback = transactional("_rollback")


def set_autocommit(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper._set_autocommit`: sqlite3 commits an open transaction on the way."""

    @functools.wraps(upstream)
    def _set_autocommit(self: Wrapper, autocommit: bool) -> None:
        worker = worker_of(self)
        if worker is None or not self.connection.in_transaction:
            upstream(self, autocommit)
        else:
            SQLiteCalls(self, worker).call(upstream, self, autocommit)

    return _set_autocommit


_inherited_close: Callable[[Any], None] = vars(BaseDatabaseWrapper)["_close"]


def _close(self: Wrapper) -> None:
    """`DatabaseWrapper._close`: the thread closes the connection, then ends."""
    state = self.aio
    if state is None or state.worker is None:
        _inherited_close(self)
        return
    worker, connection = state.worker, self.connection
    if state.shared:
        self.connection = state.worker = None
        state.wait_on_loop(state.pool.give_back())
    elif in_bridge():
        state.worker = None
        with self.wrap_database_errors:
            wait(close_in_thread(worker, connection))
    else:
        state.worker = None
        close_soon(state.loop, worker, connection)
        worker._thread.join(CLOSE_TIMEOUT)
