"""The patches of Django's PostgreSQL backend."""

from __future__ import annotations

import asyncio
import functools
import os
import types
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.connection import Connection

from django_aio.bridge import in_bridge
from django_aio.db import sessions
from django_aio.db.backends import utils
from django_aio.db.backends.postgresql.connection import CooperativeConnection
from django_aio.db.backends.postgresql.stream import Stream
from django_aio.db.leases import part

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from django_aio.db.types import Managed, Wrapper


def database(upstream: types.ModuleType) -> types.ModuleType:
    """`DatabaseWrapper.Database`: psycopg, whose `connect()` makes cooperative connections."""
    module = types.ModuleType(upstream.__name__, upstream.__doc__)
    module.__dict__.update(upstream.__dict__)
    module.__dict__["connect"] = connect
    return module


# Whether psycopg is making a connection for Django now.
_ours: ContextVar[bool] = ContextVar("django_aio_connecting", default=False)


def connect(*args: Any, **kwargs: Any) -> Any:
    """Call `psycopg.connect()`, as a tracer may have wrapped it; makes cooperative connections."""
    found: Any = psycopg.connect
    if type(found) is types.MethodType and found.__self__ in CooperativeConnection.__mro__:
        return CooperativeConnection.connect(*args, **kwargs)
    token = _ours.set(True)
    try:
        return CooperativeConnection.made(found(*args, **kwargs))
    finally:
        _ours.reset(token)


@classmethod  # type: ignore[misc]
def connect_gen(cls: type[psycopg.Connection[Any]], conninfo: str = "") -> Any:
    """`Connection._connect_gen()`: connect by the cooperative class.

    A wrapped `connect()` calls psycopg's with psycopg's class, or with one that another package has
    put in its place. Guarded by `tests/db/backends/test_tracers.py`.
    """
    if _ours.get() and not issubclass(cls, CooperativeConnection):
        return _cooperative_class(cast(Hashable, cls))._connect_gen(conninfo)
    return super(Connection, cls)._connect_gen(conninfo)


@functools.cache
def _cooperative_class(cls: Any) -> type[CooperativeConnection]:
    """A class of cooperative connections that do what those of `cls` do as well."""
    if cls in CooperativeConnection.__mro__:
        return CooperativeConnection
    return type(cls.__name__, (CooperativeConnection, cls), {"__module__": cls.__module__})


def _cooperative(sync_pool: ConnectionPool[Any] | None) -> Any:
    """Make the connections of Django's own pool usable inside the bridge as well."""
    if sync_pool is not None and sync_pool.connection_class is psycopg.Connection:
        sync_pool.connection_class = CooperativeConnection
    return sync_pool


def _bridge_pool(wrapper: Managed) -> Any:
    try:
        from django_aio.db.backends.postgresql.pool import bridge_pool
    except ImportError as error:
        raise ImproperlyConfigured(
            f"DATABASES[{wrapper.alias!r}]['OPTIONS']['pool'] needs psycopg_pool, which cannot be "
            "imported. Install it with 'pip install django-aio[postgresql]'."
        ) from error
    return bridge_pool(wrapper)


def _stops_the_loop() -> bool:
    """Whether a coroutine calls synchronous code that blocks, and so cannot wait for the loop."""
    if in_bridge() or asyncio._get_running_loop() is None:
        return False
    return bool(os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"))


def backend_pool(upstream: property) -> property:
    """`DatabaseWrapper.pool`: inside the bridge, the loop's own asynchronous pool."""
    get = cast(Callable[[Any], Any], upstream.fget)

    def pool_of(self: Wrapper) -> Any:
        """The pool that connections are leased from, or None."""
        if self.aio is None or not self.aio.pooled or _stops_the_loop():
            return _cooperative(get(self))
        state = self.aio
        # Cached, because Django asks several times for each connection. A wrapper keeps its loop.
        if state.pool is None or state.pool.closed:
            state.pool = _bridge_pool(self)
        return state.pool

    return property(pool_of)


def chunked_cursor(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`DatabaseWrapper.chunked_cursor`: a server-side cursor that takes turns and ends anywhere."""

    @functools.wraps(upstream)
    def chunked_cursor(self: Wrapper) -> Any:
        cursor = upstream(self)
        if self.aio is not None and isinstance(self.connection, CooperativeConnection):
            cursor.cursor = Stream(cursor.cursor, self)
            if self.aio.pooled and not self.in_atomic_block:
                sessions.begin(self, joins=False)  # the cursor holds the connection between rows
        return cursor

    return utils.cursor(chunked_cursor)


def close_pool(upstream: Callable[..., None]) -> Callable[..., None]:
    """`DatabaseWrapper.close_pool`: close the pool of the loop, or outside the bridge Django's."""

    def close_pool(self: Any) -> None:
        """Close the pool, so that new connections are configured anew."""
        if self.aio is not None and self.aio.pooled:
            part(self)
            self.pool.close()
        else:
            upstream(self)

    return close_pool
