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
import functools
import time
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import run, wait

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

    from django_aio.db.backends.postgresql import CooperativeConnection

# How long the end of a loop waits for threads that close a connection, in seconds.
CLOSE_TIMEOUT = 5.0


class Store:
    """What waits on one loop. Touched by the thread of that loop only."""

    def __init__(self) -> None:
        self.idle: dict[str, list[Any]] = {}
        self.pools: dict[str, AsyncConnectionPool[Any]] = {}
        self.ending: set[asyncio.Future[Any]] = set()  # threads that are closing a connection
        self.closed = False
        self._guard: AsyncGenerator[None] | None = None

    async def watch(self) -> None:
        """Have the store closed with its loop."""
        if self._guard is None:
            self._guard = self._until_loop_closes()
            await anext(self._guard)

    async def _until_loop_closes(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Close every idle connection and every pool."""
        self.closed = True
        idle, self.idle = self.idle, {}
        pools, self.pools = self.pools, {}
        for wrapper in (wrapper for wrappers in idle.values() for wrapper in wrappers):
            await run(wrapper.close)
        for pool in pools.values():
            await pool.close()
        if self.ending:
            await asyncio.wait(self.ending, timeout=CLOSE_TIMEOUT)


_stores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Store] = weakref.WeakKeyDictionary()


def store() -> Store:
    """The store of the running loop. A store that was closed is replaced by a new one."""
    loop = asyncio.get_running_loop()
    found = _stores.get(loop)
    if found is None or found.closed:
        found = _stores[loop] = Store()
    return found


def watched_store() -> Store:
    """The store of the running loop, sure to be closed with it. Called inside the bridge."""
    found = store()
    if found._guard is None:
        wait(found.watch())
    return found


async def close_store() -> None:
    """Close what waits on the running loop, as at the shutdown of an ASGI server's lifespan."""
    found = _stores.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()


def take_idle(alias: str) -> Any:
    """A logical connection that an ended chain left, with its physical one open; None if none."""
    waiting = store().idle.get(alias)
    while waiting:
        wrapper = waiting.pop()
        if not _expired(wrapper):
            wrapper.health_check_done = False
            return wrapper
        wrapper.aio_driver.drop(wrapper)
    return None


def give_back(wrapper: Any) -> None:
    """At the end of a chain: keep the connection for the next one, or drop it. Never waits.

    A wrapper that was put in place by hand (`connections[alias] = wrapper`) is left alone.
    """
    driver = getattr(wrapper, "aio_driver", None)
    if driver is None or wrapper.connection is None:
        return
    found = _stores.get(asyncio.get_running_loop())
    if (
        found is None
        or found._guard is None
        or found.closed
        or not _reusable(wrapper)
        or not driver.is_idle(wrapper)
    ):
        driver.drop(wrapper)
        return
    wrapper.queries_log.clear()
    waiting = found.idle.setdefault(wrapper.alias, [])
    while waiting and _expired(waiting[0]):
        old = waiting.pop(0)
        old.aio_driver.drop(old)
    waiting.append(wrapper)


def _expired(wrapper: BaseDatabaseWrapper) -> bool:
    return wrapper.close_at is not None and time.monotonic() >= wrapper.close_at


def _reusable(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether another chain may use the wrapper: nothing of this one is left on it."""
    return not (
        _expired(wrapper)
        or wrapper.in_atomic_block
        or wrapper.errors_occurred
        or wrapper.execute_wrappers
        or wrapper.force_debug_cursor
        or wrapper.run_on_commit
        or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]
        or pooled(wrapper)
    )


def pooled(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether the physical connection is leased from a pool."""
    return getattr(wrapper.connection, "_pool", None) is not None


class BridgePool:
    """What Django's PostgreSQL backend sees as its pool inside the bridge.

    It has the four methods that the backend calls, and leases from the loop's
    `AsyncConnectionPool`. Called inside the bridge, in the loop's thread.
    """

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self.pool = pool

    def open(self) -> None:
        """Start the pool if it is not open."""
        if self.pool.closed:
            wait(self.pool.open())

    def getconn(self) -> CooperativeConnection:
        """Lease a connection. Raises `psycopg_pool.PoolTimeout` if none comes free in time."""
        face = _face(wait(self.pool.getconn()))
        face._pool = self  # type: ignore[assignment]
        return face

    def putconn(self, face: CooperativeConnection) -> None:
        """Return a connection. The pool closes one that is not idle."""
        face._pool = None
        wait(self.pool.putconn(face.twin))

    def putconn_soon(self, face: CooperativeConnection) -> None:
        """Return a connection from where nothing can be awaited, such as a task's end."""
        face._pool = None
        twin = face.twin
        returning = asyncio.get_running_loop().create_task(self.pool.putconn(twin))
        _returning.add(returning)
        returning.add_done_callback(functools.partial(_returned, twin))

    def close(self) -> None:
        """Close the pool; the next `getconn()` of this alias opens a new one."""
        pools = store().pools
        for alias in [alias for alias, pool in pools.items() if pool is self.pool]:
            del pools[alias]
        wait(self.pool.close())


# Tasks need a reference until they are done.
_returning: set[asyncio.Task[None]] = set()


def _returned(twin: Any, task: asyncio.Task[None]) -> None:
    """A return that the loop's end cancelled must not leave the connection open."""
    _returning.discard(task)
    if task.cancelled() or task.exception() is not None:
        twin.pgconn.finish()


def bridge_pool(wrapper: Any, options: Any) -> BridgePool:
    """The pool of the wrapper's alias on the running loop, made at its first use."""
    pools = watched_store().pools
    pool = pools.get(wrapper.alias)
    if pool is None:
        pool = pools[wrapper.alias] = _make_pool(wrapper, {} if options is True else options)
    return BridgePool(pool)


def _make_pool(wrapper: Any, options: dict[str, Any]) -> AsyncConnectionPool[Any]:
    """Build the pool from the options that Django's own pool takes."""
    if wrapper.settings_dict.get("CONN_MAX_AGE", 0) != 0:
        raise ImproperlyConfigured("Pooling doesn't support persistent connections.")
    try:
        import psycopg
        from psycopg_pool import AsyncConnectionPool
    except ImportError as error:
        raise ImproperlyConfigured(
            f"DATABASES[{wrapper.alias!r}]['OPTIONS']['pool'] needs psycopg_pool, which cannot be "
            "imported. Install it with 'pip install django-aio[postgresql]'."
        ) from error

    parameters = wrapper.get_connection_params()
    cursor_factory = parameters.pop("cursor_factory")
    parameters["autocommit"] = True
    options = dict(options)
    if "check" not in options and wrapper.settings_dict["CONN_HEALTH_CHECKS"]:
        options["check"] = AsyncConnectionPool.check_connection
    elif "check" in options:
        options["check"] = _adapted(options["check"])
    if "reset" in options:
        options["reset"] = _adapted(options["reset"])
    # A copy, because the pool outlives the chain whose wrapper this is.
    configure = wrapper.copy()._configure_connection

    async def configure_face(twin: psycopg.AsyncConnection[Any]) -> None:
        _face(twin).cursor_factory = cursor_factory
        await run(configure, _face(twin))

    return AsyncConnectionPool(kwargs=parameters, open=False, configure=configure_face, **options)


def _adapted(callback: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """A callback written for Django's synchronous pool, for the asynchronous one."""
    if callback is None or asyncio.iscoroutinefunction(callback):
        return callback

    async def call(twin: Any) -> None:
        await run(callback, _face(twin))

    return call


def _face(twin: Any) -> CooperativeConnection:
    """The synchronous face of a pooled connection: made once, kept with it."""
    from django_aio.db.backends.postgresql import CooperativeConnection

    return CooperativeConnection.over(twin)
