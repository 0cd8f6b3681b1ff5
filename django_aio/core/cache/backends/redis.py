"""Redis: Django's cache client, on connections of redis.asyncio.

In the bridge `RedisCacheClient.get_client()` returns a `CooperativeRedis`: redis-py's synchronous
client, whose every wait lets the loop go on. The pool and its connections are redis.asyncio's, made
from the same URL and options, one pool for each loop and server. There are two ways to send a
command:

- The commands of the cache for one or several keys share one connection of the loop, in pipelines
  (`shared.py`): the server answers them at once, so none needs a connection of its own.
- Everything else (transactions, scripts, blocking commands, Pub/Sub) has a connection from the pool
  for as long as redis-py wants it.

A pool class, parser or client that is not redis-py's own has no async form: its commands run in a
thread. Outside the bridge nothing changes. (Django documentation, "Redis"; redis-py documentation,
"Asyncio Examples".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
from asgiref.sync import iscoroutinefunction
from redis.asyncio.retry import Retry

from django_aio.bridge import in_bridge, run, wait
from django_aio.core.cache.backends.shared import SharedConnection
from django_aio.loops import store
from django_aio.threads import call_in_thread

if TYPE_CHECKING:
    from django.core.cache.backends.redis import RedisCacheClient

    class CacheClient(RedisCacheClient):
        """Django's class, with what its stub does not have."""

        _client: type[redis.Redis]
        _pool_class: type[redis.ConnectionPool]
        _pool_options: dict[str, Any]
        _servers: list[str]

        def _get_connection_pool_index(self, write: bool) -> int: ...


# Commands that take no time on the server and leave no state on the connection.
SHARED = {"GET", "SET", "MGET", "MSET", "DEL", "EXISTS", "EXPIRE", "PERSIST", "INCRBY", "DECRBY"}

POOLS: dict[Any, Any] = {
    redis.ConnectionPool: redis.asyncio.ConnectionPool,
    redis.BlockingConnectionPool: redis.asyncio.BlockingConnectionPool,
}

# Options that redis-py makes anew for each client; they make no difference to the connection.
_ALIKE = {"driver_info", "lib_name", "lib_version"}


def get_client(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`RedisCacheClient.get_client`: in the bridge, a client that waits on the loop."""

    @functools.wraps(upstream)
    def get_client(self: CacheClient, key: object = None, *, write: bool = False) -> Any:
        if not in_bridge():
            return upstream(self, key, write=write)
        if not _has_async_form(self):
            return _in_thread(upstream(self, key, write=write))
        return _client(self, self._servers[self._get_connection_pool_index(write)])

    return get_client


def _has_async_form(cache_client: CacheClient) -> bool:
    """Whether everything that the settings chose has an async form."""
    return (
        cache_client._client is redis.Redis
        and cache_client._pool_class in POOLS
        and cache_client._pool_options["parser_class"] is redis.connection.DefaultParser
    )


def _client(cache_client: CacheClient, url: str) -> CooperativeRedis:
    """The client of the running loop for one server and one set of options."""
    keys = cache_client.__dict__.setdefault("_aio_keys", {})
    key = keys.get(url)
    if key is None:
        key = keys[url] = _key(cache_client, url)
    pools = store().pools
    client = pools.get(key)
    if client is None:
        client = pools[key] = _new_client(cache_client, url)
    return client  # type: ignore[return-value]


def _key(cache_client: CacheClient, url: str) -> tuple[Any, ...]:
    """Identify a configuration: all instances of one cache have the same key."""
    options = cache_client._pool_options.items()
    return (
        url,
        cache_client._pool_class,
        *sorted((name, repr(value)) for name, value in options if name not in _ALIKE),
    )


def _new_client(cache_client: CacheClient, url: str) -> CooperativeRedis:
    options = {**cache_client._pool_options}
    del options["parser_class"]
    retry = options.get("retry")
    if isinstance(retry, redis.retry.Retry):
        options["retry"] = Retry(retry._backoff, retry._retries)
    pool = POOLS[cache_client._pool_class].from_url(url, **options)
    found = store()
    if not found.watched:
        wait(found.watch())
    return CooperativeRedis(pool)


class CooperativeRedis(redis.Redis):
    """redis-py's client, called in the bridge: every wait lets the loop go on.

    Belongs to one loop, whose tasks share it.
    """

    def __init__(self, pool: redis.asyncio.ConnectionPool) -> None:
        super().__init__(connection_pool=_Pool(pool))  # type: ignore[arg-type]
        self._pool = pool
        self._shared = SharedConnection(pool.make_connection())  # type: ignore[no-untyped-call]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its answer. Raises what redis-py does."""
        if args[0] not in SHARED:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        answer = wait(self._shared.ask(args))
        options.pop("keys", None)  # for redis-py's client-side cache
        callback: Any = self.response_callbacks.get(args[0])  # type: ignore[no-untyped-call]
        return answer if callback is None else callback(answer, **options)

    async def aclose(self) -> None:
        """Close all connections, for `Store.close()`."""
        await self._shared.aclose()
        await self._pool.disconnect()


class _Synchronous:
    """The synchronous face of an object of redis.asyncio: it waits for that object's coroutines."""

    def __init__(self, asynchronous: Any) -> None:
        self.asynchronous = asynchronous

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.asynchronous, name)
        if not iscoroutinefunction(value):
            return value
        return functools.partial(_call, value)


def _call(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return wait(func(*args, **kwargs))


class _Pool(_Synchronous):
    """The synchronous face of a pool."""

    cache = None  # redis.asyncio has no client-side cache

    def get_connection(self, *args: Any, **kwargs: Any) -> _Connection:
        """Take a connection from the pool. Raises what the pool does."""
        return _Connection(wait(self.asynchronous.get_connection(*args, **kwargs)))

    def release(self, connection: _Connection) -> None:
        """Return a connection to the pool."""
        wait(self.asynchronous.release(connection.asynchronous))


class _Connection(_Synchronous):
    """The synchronous face of a connection."""

    @property
    def retry(self) -> _Retry:
        """The retry policy of the settings."""
        return _Retry(self.asynchronous.retry)


class _Retry(_Synchronous):
    """The synchronous face of a retry policy: its pauses let the loop go on."""

    def call_with_retry(
        self, do: Callable[..., Any], fail: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Call `do()` as often as the policy allows, and `fail()` after each failure."""
        do, fail = functools.partial(run, do), functools.partial(run, fail)
        return wait(self.asynchronous.call_with_retry(do, fail, *args, **kwargs))


def _in_thread(client: Any) -> Any:
    """A synchronous client whose commands run in a thread while the bridge waits."""
    execute_command, pipeline = client.execute_command, client.pipeline

    def pipeline_in_thread(*args: Any, **kwargs: Any) -> Any:
        queued = pipeline(*args, **kwargs)
        queued.execute = functools.partial(call_in_thread, queued.execute)
        return queued

    client.execute_command = functools.partial(call_in_thread, execute_command)
    client.pipeline = pipeline_in_thread
    return client
