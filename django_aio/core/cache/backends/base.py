"""`get_or_set()` and `aget_or_set()`: one computation for many who wait for the same key.

If a value is missing and a task of this loop is already computing it, other tasks wait for that
task and then read what it stored: each has a copy of its own, as in stock Django. If nothing could
be stored, they compute the value themselves. An error of the computation is raised in all of them;
if its task is cancelled, one of the others takes over. `default` may be a coroutine function.

Never wait while holding what the other computation may need: a computation that asks for another
key computes that key itself if need be, and so does a task inside a transaction. (Django
documentation, "The low-level cache API".)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import connections
from django.db.models import QuerySet

from django_aio.awaiting import bridged
from django_aio.bridge import in_bridge, wait

if TYPE_CHECKING:
    from django.core.cache import CacheHandler

# The alias of a cache, or else its identity, and the key as the store has it.
Name = tuple[str | int, str]
Flights = dict[Name, asyncio.Future[None]]

# The computations under way, for each loop. An entry belongs to the task that computes.
_flights: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Flights] = (
    weakref.WeakKeyDictionary()
)
_computing: ContextVar[bool] = ContextVar("_computing", default=False)


def create_connection(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`CacheHandler.create_connection`: note the alias, which the cache objects of it share.

    Each context has a cache object of its own.
    """

    @functools.wraps(upstream)
    def create_connection(self: CacheHandler, alias: str) -> Any:
        cache = upstream(self, alias)
        cache._aio_alias = alias
        return cache

    return create_connection


def get_or_set(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseCache.get_or_set`: in the bridge, one computation for many."""

    @functools.wraps(upstream)
    def get_or_set(
        self: BaseCache,
        key: str,
        default: object,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        if not in_bridge():
            return upstream(self, key, default, timeout=timeout, version=version)
        return wait(BaseCache.aget_or_set(self, key, default, timeout, version))

    return get_or_set


def aget_or_set(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseCache.aget_or_set`: one computation for many."""
    in_bridge_throughout = bridged(upstream)

    @functools.wraps(upstream)
    async def aget_or_set(
        self: BaseCache,
        key: str,
        default: object,
        timeout: float | None = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - upstream's, of the entry
        version: int | None = None,
    ) -> Any:
        if type(self).get_or_set is not BaseCache.get_or_set:
            return await upstream(self, key, default, timeout=timeout, version=version)
        store = functools.partial(in_bridge_throughout, self, key, timeout=timeout, version=version)
        flights = _flights.setdefault(asyncio.get_running_loop(), {})
        name = (getattr(self, "_aio_alias", None) or id(self), self.make_key(key, version))
        waited = False
        while True:
            value = await self.aget(key, self._missing_key, version=version)
            if value is not self._missing_key:
                return value
            flight = flights.get(name)
            if waited or (flight is not None and _must_not_wait()):
                return await _computed(store, default)
            if flight is None:
                return await _lead(flights, name, store, default)
            waited = await _landed(flight)

    return aget_or_set


async def _landed(flight: asyncio.Future[None]) -> bool:
    """Wait for a computation. Return whether it was not cancelled. Raises what it raised."""
    await asyncio.wait([flight])
    if flight.cancelled():
        return False
    flight.result()
    return True


async def _lead(flights: Flights, name: Name, store: Callable[..., Any], default: object) -> Any:
    """Compute and store a value, for all tasks that ask for it meanwhile."""
    flight = flights[name] = asyncio.get_running_loop().create_future()
    token = _computing.set(True)
    try:
        value = await _computed(store, default)
    except Exception as error:
        flight.set_exception(error)
        flight.exception()  # perhaps nobody waits for it
        raise
    else:
        flight.set_result(None)
        return value
    finally:
        _computing.reset(token)
        del flights[name]
        flight.cancel()  # no effect on one that has ended


async def _computed(store: Callable[..., Any], default: object) -> Any:
    """Have Django look for the value once more, compute it and store it.

    Another task may have stored it since the first look.
    """

    def compute() -> Any:
        value = default() if callable(default) else default
        return wait(value) if inspect.isawaitable(value) else value

    return await store(default=compute)


def evaluate(*values: object) -> None:
    """Evaluate querysets on the loop, before a thread pickles them.

    Those in a dictionary too. The thread, which is a guest, evaluates one that is nested deeper.
    """
    if not in_bridge():
        return
    for value in values:
        if isinstance(value, QuerySet):
            len(value)
        elif isinstance(value, dict):
            evaluate(*value.values())


def _must_not_wait() -> bool:
    if _computing.get():
        return True
    return any(wrapper.in_atomic_block for wrapper in connections.all(initialized_only=True))
