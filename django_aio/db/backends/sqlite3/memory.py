"""An in-memory SQLite database: one physical connection for a loop, used by all chains in turn.

A second connection would see an empty database, or with a shared cache find its tables locked. So
each chain leases the only one, as from a pool of size one: for a statement, or for a transaction.
The connection closes with its loop, and the database is gone, unless a thread has it open. Guarded
by `tests/db/backends/sqlite3/test_memory.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import aiosqlite

from django_aio.db.backends.sqlite3.worker import close_soon, open_worker
from django_aio.db.idle import watched_store

if TYPE_CHECKING:
    from django_aio.db.types import Managed


class Turn(Protocol):
    """The lock that the holder of the connection releases, or the turns of a test."""

    def release(self) -> None:
        """Let the next one have it."""


class MemoryPool:
    """The only connection of an in-memory database on one loop. Touched by that loop's thread."""

    def __init__(self, turn: Turn | None = None) -> None:
        self._lock = asyncio.Lock()
        self._turn: Turn = turn or self._lock
        self._worker: aiosqlite.Connection | None = None

    async def take(self, connector: Callable[[], Any]) -> aiosqlite.Connection:
        """Wait for the connection. The first call opens it, by `connector()` in its thread."""
        await self._lock.acquire()
        try:
            if self._worker is None:
                worker = aiosqlite.Connection(connector, 64)
                await open_worker(worker)
                self._worker = worker
        except BaseException:
            self._turn.release()
            raise
        return self._worker

    def is_free(self) -> bool:
        """Whether nobody has the connection."""
        return not self._lock.locked()

    async def give_back(self) -> None:
        """Let the next chain have the connection, outside any transaction."""
        worker = self._worker
        try:
            if worker is not None and worker._conn.in_transaction:
                await worker.rollback()
        finally:
            self._turn.release()

    async def aclose(self) -> None:
        """Close the connection."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    def abandon(self) -> list[asyncio.Task[Any]]:
        """Close the connection when its loop is gone. Any thread."""
        worker, self._worker = self._worker, None
        if worker is not None:
            close_soon(None, worker, worker._connection)
        return []


def memory_pool(wrapper: Managed) -> MemoryPool:
    """The connection that the in-memory database of `wrapper` has on its chain's loop."""
    pools = watched_store(wrapper).pools
    pool = pools.get(wrapper.alias)
    if pool is None:
        pool = pools[wrapper.alias] = MemoryPool()
    assert isinstance(pool, MemoryPool)
    return pool
