"""What belongs to one event loop, and closes with it: one store for each loop.

Connection pools, clients of caches, connections that wait between two chains: whoever opens such a
thing on a loop keeps it in the loop's store, and need not care how the loop ends.

- An asynchronous generator that `loop.shutdown_asyncgens()` finalises (`asyncio.run()` and every
  ASGI server call it) closes what the store holds. ASGI's lifespan shutdown closes it earlier.
- A loop that is closed by hand, or left by a thread that ends, drops a `_Sentinel`: then all that
  the loop had is closed at once, without asking anybody.

A store is touched by the thread of its loop only, but for `abandon()`. Guarded by
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

# How long a timer runs that is not meant to fire, in seconds: uvloop knows no longer ones.
FAR_AWAY = 30 * 24 * 3600.0


class Closable(Protocol):
    """What a store closes: a pool, the clients of a cache, the connections of ended chains."""

    async def aclose(self) -> None:
        """Close it and its connections, even if the loop has cancelled its tasks."""


@runtime_checkable
class Abandonable(Closable, Protocol):
    """What can be closed without its loop as well. Else the garbage collector closes it."""

    def abandon(self) -> Collection[asyncio.Task[Any]]:
        """Close it at once: its loop will never run again. Any thread.

        Returns the tasks of the loop that hold what it had.
        """


class Store:
    """What belongs to one loop. Touched by the thread of that loop only, but for `abandon()`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pools: dict[Any, Closable] = {}
        self.users: list[Abandonable] = []  # of the pools, so they are closed first
        self.ending: set[asyncio.Future[Any]] = set()  # what threads open or close for nobody
        self.tasks: set[asyncio.Task[Any]] = set()  # what ends something where nobody waits for it
        self._guard: AsyncGenerator[None] | None = None
        self._loop = weakref.ref(loop)
        self.thread = 0  # of the loop
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
        """Run a coroutine in a task that nobody waits for. Called on the loop."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def close(self) -> None:
        """Close whatever is kept. The store can be used again.

        What cannot be closed is logged, and the rest closed.
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
        """Close whatever the loop has: it will never run again. Any thread."""
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
        """The thread that made the store ends. A loop that it left is not run by another."""
        loop = self._loop()
        if loop is None or not loop.is_running():
            self.abandon()


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """Log what cannot be closed, and go on."""
    try:
        yield
    except Exception:
        logger.exception("%s could not be closed.", what)


def _unwind(task: asyncio.Task[Any]) -> None:
    """Free what a task of a closed loop holds.

    The garbage collector cannot where it is suspended in the bridge: it does not see what the stack
    of a greenlet refers to, such as the future that refers to the task.
    """
    coroutine = task.get_coro()
    if coroutine is not None and not task.done():
        with contextlib.suppress(Exception):
            coroutine.close()


# Timers of a loop run in it: a cancelled one is kept until its time comes, and its context with it.
NOBODYS = contextvars.Context()


class _Sentinel:
    """Waits among the timers of a loop, which drops them when it is closed."""

    def __init__(self, store: Store) -> None:
        self._store: Store | None = store

    def post(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to wait, in the loop's thread."""
        if self._store is not None:
            self._store.thread = threading.get_ident()
        _of_thread.stores.append(self._store)
        self.post_again(loop)

    def post_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait on. In nobody's context, which would be kept for as long as the loop lives."""
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
        """Have the store end with the thread, at the latest."""
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
    """The store of `loop`, by default of the running one."""
    loop = loop or asyncio.get_running_loop()
    found = _stores.get(loop)
    if found is None:
        found = _stores[loop] = Store(loop)
    return found


async def close_store() -> None:
    """Close what the running loop has, as at the shutdown of an ASGI server's lifespan."""
    await store().close()


# What a child of a fork knows of its parent's connections: to free them would be to close them.
disowned: list[Any] = []


def disown_stores() -> None:
    """In the child of a fork: nothing that a loop of the parent had is the child's."""
    for each in list(_stores.values()):
        disowned.append((each, each.users, each.pools))
        each.users, each.pools, each._guard = [], {}, None
    _stores.clear()
