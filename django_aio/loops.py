"""One store for each event loop: what belongs to the loop, and closes with it.

Connection pools, clients of caches, connections that wait between two chains: code that opens such
a thing on a loop keeps it in the loop's store, and need not care how the loop ends.

- An asynchronous generator that `loop.shutdown_asyncgens()` finalises (`asyncio.run()` and every
  ASGI server call it) closes everything in the store. ASGI's lifespan shutdown closes it earlier.
- A loop that is closed by hand, or that a thread leaves behind at its end, drops a `_Sentinel`:
  then everything in the store is closed at once, without a message to any server.

A store is touched only by the thread of its loop, except for `abandon()`. Guarded by
`tests/test_loops.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Collection, Coroutine, Iterator
from typing import Any, Protocol, runtime_checkable

logger = logging.getLogger("django_aio.db")

# How long the end of a loop waits for threads that close a connection, in seconds.
CLOSE_TIMEOUT = 5.0

# The time of a timer that is not meant to fire, in seconds: uvloop has no longer timers.
FAR_AWAY = 30 * 24 * 3600.0


class Closable(Protocol):
    """Something in a store: a pool, the clients of a cache, the connections of ended chains."""

    async def aclose(self) -> None:
        """Close it and its connections, even if the loop has cancelled its tasks."""


@runtime_checkable
class Abandonable(Closable, Protocol):
    """Something that can be closed without its loop as well, at once."""

    def abandon(self) -> Collection[asyncio.Task[Any]]:
        """Close it at once: its loop will never run again. Any thread.

        Returns the tasks of the loop that still refer to its connections.
        """


class Store:
    """The store of one loop. Touched only by that loop's thread, except for `abandon()`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pools: dict[Any, Closable] = {}
        self.users: list[Abandonable] = []  # of the pools, so they are closed first
        self.ending: set[asyncio.Future[Any]] = set()  # threads open or close, and no task waits
        self.tasks: set[asyncio.Task[Any]] = set()  # those of start(), for which nothing waits
        self._guard: AsyncGenerator[None] | None = None
        self._loop = weakref.ref(loop)
        self.thread = 0  # the identity of the loop's thread
        sentinel = _Sentinel(self)
        if asyncio._get_running_loop() is loop:
            sentinel.post(loop)
        else:
            loop.call_soon_threadsafe(sentinel.post, loop)

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

    def start(
        self, work: Coroutine[Any, Any, Any], context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """Run a coroutine in a task that nothing waits for. Called on the loop."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def close(self) -> None:
        """Close everything in the store, which can be used again.

        Logs what cannot be closed, and closes the rest.
        """
        pools, self.pools = self.pools, {}
        for user in self.users:
            await user.aclose()
        for name, pool in pools.items():
            with logged(f"The pool of {name!r}"):
                await pool.aclose()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self.ending and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(self.ending, timeout=left)

    def abandon(self) -> None:
        """Close everything in the store: its loop will never run again. Any thread."""
        self._guard = None
        tasks = set(self.tasks)
        pools, self.pools = self.pools, {}
        for user in self.users:
            tasks.update(user.abandon())
        self.tasks.clear()
        self.ending.clear()
        for name, pool in pools.items():
            if isinstance(pool, Abandonable):
                with logged(f"The pool of {name!r}"):
                    tasks.update(pool.abandon())
        if self.thread == threading.get_ident():
            for task in tasks:
                _unwind(task)

    def end_with_thread(self) -> None:
        """Abandon the store when the thread that made it ends, unless its loop still runs."""
        loop = self._loop()
        if loop is None or not loop.is_running():
            self.abandon()


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """Log an error of closing `what`, and go on."""
    try:
        yield
    except Exception:
        logger.exception("%s could not be closed.", what)


def _unwind(task: asyncio.Task[Any]) -> None:
    """Free what a task of a closed loop holds.

    The garbage collector cannot free a task that is suspended in the bridge: it does not see what
    the stack of a greenlet refers to, such as the future that refers to the task.
    """
    coroutine = task.get_coro()
    if coroutine is not None and not task.done():
        with contextlib.suppress(Exception):
            coroutine.close()


# The context of timers. A loop keeps a cancelled timer, with its context, until its time comes.
NOBODYS = contextvars.Context()


class _Sentinel:
    """Waits among the timers of a loop, which drops them when it is closed."""

    def __init__(self, store: Store) -> None:
        self._store: Store | None = store

    def post(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the first timer. Called in the loop's thread."""
        if self._store is not None:
            self._store.thread = threading.get_ident()
        _of_thread.stores.append(self._store)
        self.post_again(loop)

    def post_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the next timer, in an empty context: the loop keeps it for as long as it lives."""
        loop.call_later(FAR_AWAY, self.post_again, loop, context=NOBODYS)

    def __del__(self) -> None:
        store, self._store = self._store, None
        if store is not None and not sys.is_finalizing():
            store.abandon()


class _Stores:
    """The stores that a thread has made, for as long as it lives."""

    def __init__(self) -> None:
        self._refs: list[weakref.ref[Store]] = []

    def append(self, store: Store | None) -> None:
        """Have the store end with the thread at the latest."""
        self._refs = [ref for ref in self._refs if ref() is not None]
        if store is not None:
            self._refs.append(weakref.ref(store))

    def __del__(self) -> None:
        if sys.is_finalizing():
            return
        for ref in self._refs:
            store = ref()
            if store is not None:
                store.end_with_thread()


class _OfThread(threading.local):
    """The stores of this thread. Its end drops them."""

    def __init__(self) -> None:
        self.stores = _Stores()


_of_thread = _OfThread()

_stores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Store] = weakref.WeakKeyDictionary()


def store(loop: asyncio.AbstractEventLoop | None = None) -> Store:
    """Return the store of `loop`, by default of the running one."""
    loop = loop or asyncio.get_running_loop()
    found = _stores.get(loop)
    if found is None:
        found = _stores[loop] = Store(loop)
    return found


async def close_store() -> None:
    """Close the store of the running loop, as at the shutdown of an ASGI server's lifespan."""
    await store().close()


# The parent's connections, in the child of a fork: to free them would be to close them.
disowned: list[Any] = []


def disown_stores() -> None:
    """Empty all stores, in the child of a fork: what they hold is the parent's."""
    for each in list(_stores.values()):
        disowned.append((each, each.users, each.pools))
        each.users, each.pools, each._guard = [], {}, None
    _stores.clear()
