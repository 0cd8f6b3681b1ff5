"""SQLite through aiosqlite: its thread per connection, one hop per statement with its first rows.

SQLite has no non-blocking interface. Inside the bridge Django's backend opens its connection in an
aiosqlite thread and keeps using the real `sqlite3.Connection`; what reads or writes the file is
sent to that thread. Waiting for another process's lock (the `timeout` option) happens there too, so
the loop goes on. A cancelled task interrupts its statement.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import aiosqlite
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import in_bridge, wait
from django_aio.db.backends.threaded import HopCursor
from django_aio.db.pool import store, watched_store

# How long a cancelled task waits for its interrupted statement, in seconds.
INTERRUPT_TIMEOUT = 5.0

if not hasattr(aiosqlite.Connection, "_execute"):
    raise ImproperlyConfigured(
        f"django-aio cannot use aiosqlite {aiosqlite.__version__}: its Connection has no "
        "_execute(). Install a version that 'pip install django-aio[sqlite]' allows."
    )


class SQLiteDriver:
    """How a chain judges and drops a SQLite connection at its end."""

    def is_idle(self, wrapper: Any) -> bool:
        """Whether no transaction is open. sqlite3 knows without touching the file."""
        return not wrapper.connection.in_transaction

    def drop(self, wrapper: Any) -> None:
        """Have the thread close the connection and end; SQLite rolls back what is open."""
        worker = worker_of(wrapper)
        wrapper.connection = wrapper.aio_worker = None
        if worker is not None:
            _stop(worker)


def _stop(worker: aiosqlite.Connection) -> None:
    """Have the thread close its connection and end. The loop's store waits for it at the end."""
    ended = worker.stop()
    if ended is not None:
        store().ending.add(ended)
        ended.add_done_callback(store().ending.discard)


def worker_of(wrapper: Any) -> aiosqlite.Connection | None:
    """The thread of a logical connection, or None if it was opened outside the bridge."""
    return getattr(wrapper, "aio_worker", None)


def get_new_connection(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper.get_new_connection`: inside the bridge, open the file in a new thread."""

    @functools.wraps(upstream)
    def get_new_connection(self: Any, conn_params: dict[str, Any]) -> Any:
        if not in_bridge():
            return upstream(self, conn_params)
        watched_store()
        worker = aiosqlite.Connection(functools.partial(upstream, self, conn_params), 64)
        # A process that ends without closing its loop must not wait for the thread.
        worker._thread.daemon = True
        wait(_open(worker))
        self.aio_worker = worker
        return worker._conn

    return get_new_connection


async def _open(worker: aiosqlite.Connection) -> None:
    """Open the connection. Cancelled meanwhile, close it as soon as it is open."""
    opening = asyncio.ensure_future(worker)
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
        return cursor if worker is None else HopCursor(cursor, functools.partial(_hop, worker))

    return create_cursor


def _hop(worker: aiosqlite.Connection, func: Callable[..., Any], *args: Any) -> Any:
    return wait(_call(worker, func, *args))


async def _call(worker: aiosqlite.Connection, func: Callable[..., Any], *args: Any) -> Any:
    """Call `func` in the thread. Cancelled meanwhile, interrupt the statement and wait for its end.

    aiosqlite's own methods would each take a hop and read one row at a time; `_execute()` is how
    they send a function to the thread.
    """
    try:
        return await worker._execute(func, *args)  # type: ignore[no-untyped-call]
    except asyncio.CancelledError:
        worker._conn.interrupt()
        try:
            # The thread takes one call after another: when it comes to this one the other is over.
            async with asyncio.timeout(INTERRUPT_TIMEOUT):
                await worker._execute(lambda: None)  # type: ignore[no-untyped-call]
        except (asyncio.CancelledError, TimeoutError):
            # Not provably idle: close it as soon as the thread is free.
            _stop(worker)
        raise


def transactional(name: str) -> Callable[..., Any]:
    """A method of `BaseDatabaseWrapper` that ends a transaction: the thread writes to the file."""
    inherited = getattr(BaseDatabaseWrapper, name)

    @functools.wraps(inherited)
    def method(self: Any) -> Any:
        worker = worker_of(self)
        if worker is None or not in_bridge():
            return inherited(self)
        return _hop(worker, inherited, self)

    method.__doc__ = f"`DatabaseWrapper.{name}`: in the thread."
    return method


_commit = transactional("_commit")
_rollback = transactional("_rollback")


def set_autocommit(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`DatabaseWrapper._set_autocommit`: sqlite3 commits an open transaction on the way."""

    @functools.wraps(upstream)
    def _set_autocommit(self: Any, autocommit: bool) -> None:
        worker = worker_of(self)
        if worker is None or not in_bridge() or not self.connection.in_transaction:
            upstream(self, autocommit)
        else:
            _hop(worker, upstream, self, autocommit)

    return _set_autocommit


_inherited_close: Callable[[Any], None] = vars(BaseDatabaseWrapper)["_close"]


def _close(self: Any) -> None:
    """`DatabaseWrapper._close`: the thread closes the connection, then ends."""
    worker = worker_of(self)
    if worker is None:
        _inherited_close(self)
        return
    self.aio_worker = None
    if in_bridge():
        with self.wrap_database_errors:
            wait(worker.close())
    else:
        worker.stop()
