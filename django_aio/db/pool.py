"""Where connections wait between two chains: one store per event loop.

Two kinds, chosen by the settings that Django already has:

- `OPTIONS["pool"]` (PostgreSQL): a `psycopg_pool.AsyncConnectionPool` per loop and alias, with the
  same options as Django's own pool.
- `CONN_MAX_AGE` without a pool: a connection that is still young when its chain ends is kept for
  the next chain, as a thread keeps it for its next request.

A store belongs to one loop, is touched by that loop's thread only, and closes with the loop: an
asynchronous generator that `loop.shutdown_asyncgens()` finalises (`asyncio.run()` and every ASGI
server call it) closes what the store holds. ASGI's lifespan shutdown closes it earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import in_bridge, run

# How long the end of a loop waits for threads that close a connection, in seconds.
CLOSE_TIMEOUT = 5.0

# How many logical connections wait for each alias. More than any server keeps busy on one loop.
MOST_WAITING = 1000


class Pool(Protocol):
    """What a store keeps of a driver's pool."""

    async def aclose(self) -> None:
        """Close the pool and its connections, even if the loop has cancelled its tasks."""


class Store:
    """What waits on one loop. Touched by the thread of that loop only."""

    def __init__(self) -> None:
        # Logical connections of ended chains, with the physical one open and without.
        self.idle: dict[str, list[Any]] = {}
        self.spare: dict[str, list[Any]] = {}
        self.pools: dict[Any, Pool] = {}
        self.ending: set[asyncio.Future[Any]] = set()  # threads that are closing a connection
        self._guard: AsyncGenerator[None] | None = None

    @property
    def watched(self) -> bool:
        """Whether the store will be closed with its loop."""
        return self._guard is not None

    async def watch(self) -> None:
        """Have the store closed with its loop."""
        if self._guard is None:
            self._guard = self._until_loop_closes()
            await anext(self._guard)

    async def _until_loop_closes(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._guard = None
            await self.close()

    async def close(self) -> None:
        """Close every idle connection and every pool. The store can be used again."""
        idle, self.idle = self.idle, {}
        pools, self.pools = self.pools, {}
        for wrapper in (wrapper for wrappers in idle.values() for wrapper in wrappers):
            await run(wrapper.close)
        for pool in pools.values():
            await pool.aclose()
        if self.ending:
            await asyncio.wait(self.ending, timeout=CLOSE_TIMEOUT)


_stores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Store] = weakref.WeakKeyDictionary()


def store(loop: asyncio.AbstractEventLoop | None = None) -> Store:
    """The store of `loop`, by default of the running one."""
    loop = loop or asyncio.get_running_loop()
    found = _stores.get(loop)
    if found is None:
        found = _stores[loop] = Store()
    return found


def watched_store(wrapper: Any) -> Store:
    """The store of the loop that a logical connection belongs to, sure to be closed with it.

    Called inside the bridge, or in a guest thread.
    """
    found = store(wrapper.aio.loop)
    if not found.watched:
        wrapper.aio.settle(found.watch())
    return found


async def close_store() -> None:
    """Close what waits on the running loop, as at the shutdown of an ASGI server's lifespan."""
    await store().close()


def take(alias: str, loop: asyncio.AbstractEventLoop) -> Any:
    """Return a logical connection that an ended chain left, or None.

    One whose physical connection is still open comes first.
    """
    found = store(loop)
    idle = found.idle.get(alias)
    while idle:
        wrapper = idle.pop()
        if not _expired(wrapper):
            wrapper.health_check_done = False
            return wrapper
        wrapper.aio.driver.drop(wrapper)
    spare = found.spare.get(alias)
    return spare.pop() if spare else None


def give_back(wrapper: Any) -> None:
    """At the end of a chain: keep the connection for the next one, or drop it. Never waits.

    A wrapper that was put in place by hand (`connections[alias] = wrapper`) is left alone.
    """
    state = wrapper.aio
    if state is None:
        return
    driver, found = state.driver, store()
    part(wrapper)
    state.gate = None
    state.pinned, state.leased, state.open, state.holds = False, False, 0, 0
    shelf = found.spare
    if wrapper.connection is not None:
        if found.watched and _may_stay_open(wrapper) and driver.is_idle(wrapper):
            shelf = found.idle
        else:
            driver.drop(wrapper)
    if wrapper.execute_wrappers or wrapper.force_debug_cursor or wrapper.in_atomic_block:
        return  # something of this chain is left on it
    wrapper.queries_log.clear()
    waiting = shelf.setdefault(wrapper.alias, [])
    while waiting and (len(waiting) >= MOST_WAITING or _expired(waiting[0])):
        old = waiting.pop(0)
        if old.connection is not None:
            old.aio.driver.drop(old)
    waiting.append(wrapper)


def _expired(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether an open connection has reached the age that CONN_MAX_AGE allows."""
    return (
        wrapper.connection is not None
        and wrapper.close_at is not None
        and time.monotonic() >= wrapper.close_at
    )


def _may_stay_open(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether another chain may have the physical connection: nothing of this one is left on it."""
    return not (
        _expired(wrapper)
        or wrapper.in_atomic_block
        or wrapper.errors_occurred
        or wrapper.execute_wrappers
        or wrapper.force_debug_cursor
        or wrapper.run_on_commit
        or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]
        or getattr(wrapper.connection, "_pool", None) is not None  # its place is in the pool
    )


# R4: a pooled connection is leased for one statement, from the opening of a cursor to its closing.
# A task that begins the next one before it lets the loop go on has the same connection again,
# unless somebody waits for one. In between it is out of sight (`State.kept`): the logical
# connection is unconnected, as after every lease, and who connects it by hand gets another.

# Who may have a cursor for so short a time: its statements leave no state in the session.
STATELESS = ("django.db.models.sql.compiler", "django.core.cache.backends.db")

# What the backends do for themselves, such as savepoints, and questions about the server while they
# connect. Their cursors, which are not all closed, neither begin a lease nor end one.
NEUTRAL = ("django.db.backends.base.base", "django.db.backends.sqlite3.base")


def open_cursor(wrapper: Any, upstream: Callable[[Any], Any], caller: str) -> Any:
    """Open a cursor for code of the module `caller`, leasing a connection if need be.

    Cursors of the ORM and of the database cache give a lease back when they are closed. Anyone else
    may have set a role, a search path, an advisory lock: then the connection stays with the chain
    to its end.
    """
    state = wrapper.aio
    if caller.startswith(NEUTRAL):
        if state.shared:
            begin_lease(wrapper)
        return upstream(wrapper)
    if not state.shared:
        if wrapper.connection is None:
            state.pinned = False
        if caller not in STATELESS:
            state.pinned = True
            if state.kept is not None and wrapper.connection is None:
                _take_up(wrapper, state)
            return upstream(wrapper)
    begin_lease(wrapper)
    state.open += 1  # before it connects: who uses a cursor meanwhile must not end the lease
    try:
        cursor = upstream(wrapper)
    except BaseException:
        state.open -= 1
        release_lease(wrapper)
        raise
    close = cursor.close
    released = False

    def close_and_release() -> None:
        nonlocal released
        try:
            close()
        finally:
            if not released:
                released = True
                state.open -= 1
                release_lease(wrapper)

    cursor.close = close_and_release
    return cursor


def begin_lease(wrapper: Any) -> None:
    """What is about to connect wants the connection for a short time only."""
    state = wrapper.aio
    if wrapper.connection is None and state.pooled:
        state.leased = True
        if state.kept is not None:
            _take_up(wrapper, state)
        elif here(state):
            wrapper.connection = state.driver.lease(wrapper)


def here(state: Any) -> bool:
    """Whether this is the bridge on the loop of the chain."""
    return in_bridge() and asyncio._get_running_loop() is state.loop


def release_lease(wrapper: Any, *, shown: bool = False) -> None:
    """Return a pooled connection unless something could depend on it.

    One that was shown to a project's code goes to the pool, for the next who connects to set right.
    """
    state = wrapper.aio
    if (
        state is None
        or not state.leased
        or wrapper.connection is None
        or state.open
        or state.holds
        or state.pinned
        or state.stateful
        or wrapper.in_atomic_block
        or not wrapper.autocommit
    ):
        return
    state.leased = False
    if here(state) and not shown and state.driver.may_keep(wrapper):
        state.kept, wrapper.connection = wrapper.connection, None
        if state.pool.waiting:
            part(wrapper)
        elif not state.parting:
            state.parting = True
            state.loop.call_soon(_part, wrapper, state)
    else:
        wrapper._close()


def _take_up(wrapper: Any, state: Any) -> None:
    """Use the connection of a lease that has just ended."""
    wrapper.connection, state.kept = state.kept, None


def part(wrapper: Any) -> None:
    """Return a connection that was kept for the task's next statement. Called on its loop."""
    state = wrapper.aio
    if state is not None and state.kept is not None:
        state.driver.part(wrapper)


def _part(wrapper: Any, state: Any) -> None:
    """The task has let the loop go on: others may have the connection."""
    state.parting = False
    part(wrapper)


@contextlib.asynccontextmanager
async def hold_connection(using: str = DEFAULT_DB_ALIAS) -> AsyncGenerator[Any]:
    """Keep one physical connection for the whole of an `async with` block.

    Outside a transaction a pooled connection is otherwise leased for one statement at a time. Use
    it where statements depend on the session: an advisory lock, a temporary table. Yields the
    logical connection. Blocks may be nested. Raises what connecting raises.
    """
    wrapper: Any = connections[using]
    await run(wrapper.ensure_connection)
    wrapper.aio.leased = wrapper.aio.pooled
    wrapper.aio.holds += 1
    try:
        yield wrapper
    finally:
        wrapper.aio.holds -= 1
        await run(functools.partial(release_lease, wrapper, shown=True))
