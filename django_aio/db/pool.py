"""Where connections wait between two chains: one store per event loop.

Two kinds, chosen by the settings that Django already has:

- `OPTIONS["pool"]` (PostgreSQL): a `psycopg_pool.AsyncConnectionPool` per loop and alias, with the
  same options as Django's own pool.
- `CONN_MAX_AGE` without a pool: a connection that is still young when its chain ends is kept for
  the next chain, as a thread keeps it for its next request.

A store belongs to one loop, is touched by that loop's thread only, and closes with the loop: an
asynchronous generator that `loop.shutdown_asyncgens()` finalises (`asyncio.run()` and every ASGI
server call it) closes what the store holds. ASGI's lifespan shutdown closes it earlier. A loop that
is closed by hand, or left by a thread that ends, drops a `_Sentinel`: then all that the loop had is
closed at once, without asking anybody.
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
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import run
from django_aio.db import observers
from django_aio.db.connecting import restore
from django_aio.db.leases import forget, part

logger = logging.getLogger("django_aio.db")

# How long the end of a loop waits for threads that close a connection, in seconds.
CLOSE_TIMEOUT = 5.0

# How long a timer runs that is not meant to fire, in seconds: uvloop knows no longer ones.
FAR_AWAY = 30 * 24 * 3600.0

# How many logical connections wait for each alias. More than any server keeps busy on one loop.
MOST_WAITING = 1000


class Pool(Protocol):
    """What a store keeps of a driver's pool, or of a cache's clients."""

    async def aclose(self) -> None:
        """Close the pool and its connections, even if the loop has cancelled its tasks."""


class Store:
    """What waits on one loop. Touched by the thread of that loop only, but for `abandon()`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Logical connections of ended chains, with the physical one open and without.
        self.idle: dict[str, list[Any]] = {}
        self.spare: dict[str, list[Any]] = {}
        self.pools: dict[Any, Pool] = {}
        self.chains: weakref.WeakSet[Any] = weakref.WeakSet()
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
        """Close every idle connection and every pool. The store can be used again.

        What cannot be closed is logged, and the rest closed.
        """
        idle, self.idle = self.idle, {}
        pools, self.pools = self.pools, {}
        for wrapper in (wrapper for wrappers in idle.values() for wrapper in wrappers):
            with _logged(f"A connection to {wrapper.alias!r}"):
                # Not wrapper.close(): a guest's thread may have made it.
                await run(wrapper.aio.driver.drop, wrapper)
        for alias, pool in pools.items():
            with _logged(f"The pool of {alias!r}"):
                await pool.aclose()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self.ending and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(self.ending, timeout=left)

    def abandon(self) -> None:
        """Close whatever the loop has: it will never run again. Any thread."""
        self._guard = None
        tasks = set(self.tasks)
        for chain in list(self.chains):
            with _logged("A connection"):
                tasks.update(chain.abandon())
        idle, self.idle = self.idle, {}
        pools, self.pools = self.pools, {}
        self.spare.clear()
        self.tasks.clear()
        self.ending.clear()
        for wrapper in (wrapper for wrappers in idle.values() for wrapper in wrappers):
            with _logged(f"A connection to {wrapper.alias!r}"):
                sever(wrapper)
        for alias, pool in pools.items():
            if hasattr(pool, "abandon"):
                with _logged(f"The pool of {alias!r}"):
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
def _logged(what: str) -> Iterator[None]:
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
    driver, found = state.driver, store(state.loop)
    part(wrapper)
    observers.leave(wrapper)
    busy = state.busy or (state.gate is not None and state.gate.holder is not None)
    _end_tokens(state)
    shelf = found.spare
    if wrapper.connection is not None:
        if found.watched and not busy and _may_stay_open(wrapper) and driver.is_idle(wrapper):
            shelf = found.idle
        else:
            driver.drop(wrapper)
    state.touched = False
    left = wrapper.execute_wrappers or wrapper.force_debug_cursor or wrapper.in_atomic_block
    if busy or left or state.stateful:
        return  # somebody may still act on it
    restore(wrapper)
    waiting = shelf.setdefault(wrapper.alias, [])
    while waiting and (len(waiting) >= MOST_WAITING or _expired(waiting[0])):
        old = waiting.pop(0)
        if old.connection is not None:
            old.aio.driver.drop(old)
    waiting.append(wrapper)


def sever(wrapper: Any) -> None:
    """Close the connection whatever it is doing: nobody will use it any more. Any thread."""
    state = wrapper.aio
    if state is None:
        return
    if state.kept is not None:
        wrapper.connection, state.kept = state.kept, None
    _end_tokens(state)
    if wrapper.connection is not None:
        state.driver.sever(wrapper)


def _end_tokens(state: Any) -> None:
    """What still carries a block or a lease of this connection can do nothing with it (R7)."""
    gate, state.gate = state.gate, None
    state.session = None
    if gate is not None:
        gate.cut(None, CHAIN_ENDED)
    forget(state)


CHAIN_ENDED = (
    "The task that entered this 'atomic' block has ended without leaving it, so the block was "
    "rolled back. Leave a block in the task that entered it."
)


# What a child of a fork knows of its parent's connections: to free them would be to close them.
_disowned: list[Any] = []


def disown(wrapper: Any) -> None:
    """In the child of a fork: go on without the connection, which is the parent's."""
    state = wrapper.aio
    if state is None:
        return
    _end_tokens(state)
    _disowned.extend((wrapper.connection, state.kept, state.worker))
    wrapper.connection = state.kept = state.worker = None
    wrapper.in_atomic_block = wrapper.closed_in_transaction = wrapper.needs_rollback = False
    wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []


def disown_stores() -> None:
    """In the child of a fork: nothing that waits is the child's."""
    for each in list(_stores.values()):
        _disowned.append((each, each.idle, each.pools))
        each.idle, each.pools, each._guard = {}, {}, None
    _stores.clear()


def _expired(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether an open connection has reached the age that CONN_MAX_AGE allows."""
    return (
        wrapper.connection is not None
        and wrapper.close_at is not None
        and time.monotonic() >= wrapper.close_at
    )


def _may_stay_open(wrapper: Any) -> bool:
    """Whether another chain may have the physical connection: nothing of this one is left on it."""
    return not (
        _expired(wrapper)
        or wrapper.in_atomic_block
        or wrapper.aio.touched
        or wrapper.errors_occurred
        or wrapper.execute_wrappers
        or wrapper.force_debug_cursor
        or wrapper.run_on_commit
        or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]
        or not wrapper.aio.driver.may_stay_open(wrapper)
    )
