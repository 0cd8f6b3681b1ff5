"""Memcached: Django's own clients, on sockets that wait on the loop.

pymemcache asks a `socket_module` for its sockets, and gets cooperative ones. Keys, serialisation,
the choice of a server and the handling of dead servers remain pymemcache's, so that code inside and
outside the bridge can share a server. A client serves one call at a time, so each call in the
bridge takes one from its loop; at most `MOST_CLIENTS` are open for one configuration, and further
calls wait. Clients stay connected between requests and are closed with their loop.

pylibmc, clients of other libraries, TLS and sockets of the project's own choice cannot wait on the
loop: their calls are made in a thread. Outside the bridge nothing changes. (Django documentation,
"Memcached"; pymemcache documentation, "Using a client pool" and `socket_module`.)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from django.utils.functional import cached_property

from django_aio.bridge import in_bridge, wait
from django_aio.core.cache.backends.base import evaluate
from django_aio.loops import store
from django_aio.threads import call_in_thread

if TYPE_CHECKING:
    from django.core.cache.backends.memcached import BaseMemcachedCache

    class Cache(BaseMemcachedCache):
        """Django's class, with what its stub does not have."""

        _class: type
        _options: dict[str, Any]
        _aio_key: tuple[Any, ...]


T = TypeVar("T")

# By default memcached accepts 1024 connections, from all processes together.
MOST_CLIENTS = 32

# Options of pymemcache that choose sockets for which the loop cannot wait.
BLOCKING_OPTIONS = {"socket_module", "tls_context"}


def cache_client(upstream: cached_property[Any]) -> property:
    """`BaseMemcachedCache._cache`: in the bridge, the clients of the running loop."""
    name = "_cache"

    def _cache(self: Cache) -> Any:
        if in_bridge():
            return _clients(self)
        if name not in self.__dict__:
            self.__dict__[name] = upstream.func(self)
        return self.__dict__[name]

    return property(_cache)


def _clients(cache: Cache) -> Clients:
    key = cache.__dict__.get("_aio_key")
    if key is None:
        options = sorted((name, repr(value)) for name, value in cache._options.items())
        key = cache._aio_key = (cache._class, *cache.client_servers, *options)
    found = store()
    clients = found.pools.get(key)
    if clients is None:
        if not found.watched:
            wait(found.watch())
        clients = found.pools[key] = Clients(cache)
    return clients  # type: ignore[return-value]


class Clients:
    """Stands for the client of a cache: each call has a client of its own for its duration.

    Belongs to one loop, whose tasks share it.
    """

    def __init__(self, cache: Cache) -> None:
        options = cache._options
        self._new = functools.partial(cache._class, cache.client_servers, **options)
        self._call: Callable[..., Any] = _in_thread
        if _is_pymemcache(cache._class) and not BLOCKING_OPTIONS & options.keys():
            self._new.keywords["socket_module"] = CooperativeSockets
            self._call = _directly
        self._idle: list[Any] = []
        self._places = asyncio.Semaphore(MOST_CLIENTS)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if callable(getattr(self._new.func, name, None)):
            return functools.partial(self._call_on_one, name)
        if not self._idle:
            self._idle.append(self._new())
        return getattr(self._idle[-1], name)

    def _call_on_one(self, name: str, *args: Any, **kwargs: Any) -> Any:
        wait(self._places.acquire())
        try:
            client = self._idle.pop() if self._idle else self._new()
            try:
                _drop_stale(client)
                answer = self._call(getattr(client, name), *args, **kwargs)
            except Exception:
                # The client has closed the connection that failed, and remembers dead servers.
                self._idle.append(client)
                raise
            except BaseException:
                client.disconnect_all()  # perhaps in the middle of an answer
                raise
            self._idle.append(client)
            return answer
        finally:
            self._places.release()

    def disconnect_all(self) -> None:
        """Do nothing when Django calls this after each request: the next one reuses connections."""

    async def aclose(self) -> None:
        """Close all connections, for `Store.close()`."""
        while self._idle:
            self._idle.pop().disconnect_all()


def _in_thread(method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    evaluate(*args)
    return call_in_thread(method, *args, **kwargs)


def _directly(method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    return method(*args, **kwargs)


def _is_pymemcache(client_class: type) -> bool:
    return client_class.__module__.partition(".")[0] == "pymemcache"


def _drop_stale(client: object) -> None:
    """Forget the connections that a server has closed since they were last used."""
    for of_server in getattr(client, "clients", {}).values():
        connection = getattr(of_server, "sock", None)
        if isinstance(connection, CooperativeSocket) and connection.is_stale():
            of_server.close()


class CooperativeSocket:
    """A socket whose waits let the loop go on. Used by one task at a time, in the bridge.

    A wait that fails or is cancelled closes the socket: what was sent or read is then unknown.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._socket = socket.socket(*args, **kwargs)
        self._socket.setblocking(False)
        self._limit: float | None = None  # seconds for each wait

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, value: float | None) -> None:
        """Limit each wait. The socket itself never blocks."""
        self._limit = value

    def connect(self, address: tuple[Any, ...] | str) -> None:
        """Connect. Raises OSError, TimeoutError when the limit is reached."""
        self._wait(asyncio.get_running_loop().sock_connect(self._socket, address))

    def sendall(self, data: bytes) -> None:
        """Send everything. Raises as connect() does."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = self._socket.send(data)
        if sent < len(data):
            rest = memoryview(data)[sent:]
            self._wait(asyncio.get_running_loop().sock_sendall(self._socket, rest))

    def recv(self, bufsize: int) -> bytes:
        """Receive up to `bufsize` bytes. Raises as connect() does."""
        return self._wait(asyncio.get_running_loop().sock_recv(self._socket, bufsize))

    def is_stale(self) -> bool:
        """Whether the peer has closed the connection, or has sent unrequested data."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return wait(work if self._limit is None else asyncio.wait_for(work, self._limit))
        except BaseException:
            self._socket.close()
            raise


class _CooperativeSockets:
    """Stands for the module `socket` in pymemcache."""

    socket = CooperativeSocket

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def getaddrinfo(
        self, host: str, port: int, family: int = 0, type: int = 0, proto: int = 0
    ) -> Any:
        """Resolve a host in a thread, unless it is an address, which needs no lookup."""
        with contextlib.suppress(OSError):
            return socket.getaddrinfo(host, port, family, type, proto, socket.AI_NUMERICHOST)
        return call_in_thread(socket.getaddrinfo, host, port, family, type, proto)


CooperativeSockets = _CooperativeSockets()
