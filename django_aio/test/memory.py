"""An in-memory SQLite database that a test shares with its live server.

A second connection to such a database would find an empty database or, with a shared cache, locked
tables. So the server's loop uses the connection of the test, and both take turns: a chain of the
server leases the connection for a statement or a transaction, and the test has it for a statement,
or for as long as SQLite is in a transaction. The turns are a `Turns`, which both threads and loops
may wait for: the test may be a task of a loop that a browser's driver blocks.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiosqlite

from django_aio import loops
from django_aio.bridge import run
from django_aio.db import leases
from django_aio.db.backends.sqlite3.memory import MemoryPool
from django_aio.db.backends.sqlite3.worker import open_worker
from django_aio.db.turns import Turns
from django_aio.test.cursors import WholeCursor

if TYPE_CHECKING:
    from django_aio.db.types import Managed

# How long a request waits for the test, in seconds.
TURN_SECONDS = 10.0


class ServersTurn:
    """The turn of the server, which one of its chains has at a time."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def take(self) -> None:
        """Wait for the turn. Each chain has a turn of its own."""
        await run(self._turns.acquire, object(), None)

    def release(self) -> None:
        """Let the test or the next chain have the turn. Called by the chain that has it."""
        self._turns.release(self._turns.holder)


class SharedMemory(MemoryPool):
    """The server's pool, which has only the test's connection. Touched by the server's loop."""

    def __init__(self, worker: aiosqlite.Connection, turns: Turns, *, starts: bool) -> None:
        self._turns = ServersTurn(turns)
        super().__init__(self._turns)
        self._worker = worker
        self._starts = starts  # whether the worker's thread ends with this loop

    async def take(self, connector: Callable[[], Any]) -> aiosqlite.Connection:
        """Wait for the connection, for `TURN_SECONDS` at most."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.take()
        except TimeoutError:
            raise sqlite3.OperationalError(
                f"database is locked: for {TURN_SECONDS:g} s the test, or another request, has had "
                "the one connection of the in-memory database, in a transaction. A test must not "
                "wait for its live server inside of one; derive it from TestCase as well, and the "
                "server is in its transactions."
            ) from None
        assert self._worker is not None
        return self._worker

    async def aclose(self) -> None:
        """End the thread. The connection stays open: it is the test's."""
        worker, self._worker = self._worker, None
        if worker is not None and self._starts:
            worker._connection = None
            ended = worker.stop()
            if ended is not None:
                await ended


class Memory:
    """One shared database. Made and used by the thread of the test, to which `wrapper` belongs."""

    def __init__(self, wrapper: Managed) -> None:
        self._wrapper = wrapper
        self._turns = Turns()
        # A test that is a task holds its lease for as long as it shares the connection.
        self._lease = leases.begin_lease(wrapper) if wrapper.aio.shared else None
        if self._lease is not None:
            self._lease.holds += 1
        wrapper.ensure_connection()
        if self._lease is not None:
            self._lease.connection = wrapper.connection
        self._physical = wrapper.connection
        for name in ("_commit", "_rollback", "_set_autocommit"):
            setattr(wrapper, name, functools.partial(self._in_turn, getattr(wrapper, name)))
        create_cursor = functools.partial(self._cursor, wrapper.create_cursor)
        wrapper.create_cursor = create_cursor  # type: ignore[method-assign]

    def _in_turn(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call `method` in the test's turn, which lasts while a transaction is open."""
        self._turns.acquire(self, None)
        try:
            return method(*args)
        finally:
            if not self._physical.in_transaction:
                self._turns.release(self)

    def _cursor(self, create_cursor: Callable[..., Any], name: str | None = None) -> WholeCursor:
        return WholeCursor(create_cursor(name), self._in_turn)

    async def serve(self) -> None:
        """Let the server's chains find the test's connection. Called on the server's loop."""
        here = loops.store()
        await here.watch()
        worker = self._wrapper.aio.worker
        if worker is None:
            worker = aiosqlite.Connection(lambda: self._physical, 64)
            await open_worker(worker)
        starts = worker is not self._wrapper.aio.worker
        here.pools[self._wrapper.alias] = SharedMemory(worker, self._turns, starts=starts)

    def take_back(self) -> None:
        """Stop sharing. Called when the server has ended."""
        for name in ("_commit", "_rollback", "_set_autocommit", "create_cursor"):
            vars(self._wrapper).pop(name, None)
        if self._lease is not None:
            self._lease.end_hold()
