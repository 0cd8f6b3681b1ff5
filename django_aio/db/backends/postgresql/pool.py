"""`OPTIONS["pool"]`: a `psycopg_pool.AsyncConnectionPool` for each loop and alias.

Django's backend asks its `pool` for connections. In a chain that is a `BridgePool`, which leases
from the loop's pool and returns the synchronous face of each connection. The options are those of
Django's own pool. (Django documentation, "Connection pool"; psycopg_pool documentation.) Guarded by
`tests/db/backends/test_pools.py` and `tests/db/test_pool.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from django_aio.bridge import run
from django_aio.db.backends.postgresql.connection import IDLE, CooperativeConnection, Twin
from django_aio.db.backends.postgresql.loop_pool import LoopPool
from django_aio.db.idle import watched_store
from django_aio.db.shield import LIMIT
from django_aio.db.state import actor, on_loop, wait_on
from django_aio.loops import NOBODYS, store

if TYPE_CHECKING:
    from django_aio.db.types import Actor, Managed

# How long a connection goes from lease to lease before psycopg_pool sees it again, in seconds.
MAX_AT_HAND = 1.0


class BridgePool:
    """The pool of a chain, as Django's PostgreSQL backend sees it.

    It has the methods that the backend calls, and leases from the loop's `AsyncConnectionPool`.
    Called inside the bridge, in the loop's thread, or by a guest thread while its owner waits: so
    asynchronous and synchronous views share one bound.

    A round trip through psycopg_pool (locks, a queue, a task) costs more than a short statement. A
    returned connection therefore goes straight to the longest waiter, or stays ready for the next;
    psycopg_pool counts it as lent. After MAX_AT_HAND seconds it goes back there, busy or not, for
    `max_lifetime`, `max_idle` and `drain()`. While callers wait here, one task waits in
    psycopg_pool for all of them, so that it grows and passes on what is returned to it. `check` and
    `reset` must see every lease: with one of them all callers wait in psycopg_pool, and nothing
    stays ready.
    """

    def __init__(
        self,
        alias: str,
        pool: LoopPool,
        loop: asyncio.AbstractEventLoop,
        looks: bool,
        configure: Callable[[Twin], Coroutine[Any, Any, None]],
    ) -> None:
        self.alias = alias
        self.pool = pool
        self.configure = configure  # prepares a connection as Django does
        self.loop = loop
        self.looks = looks  # whether psycopg_pool must see every lease
        self.closed = False  # whether another one takes its place
        self.out = pool.out
        # Connections ready for a lease, last in, first out. Touched by the loop's thread only.
        self._at_hand: deque[CooperativeConnection] = deque()
        self._tidying: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[CooperativeConnection]] = deque()
        # Whether a task waits in psycopg_pool. An eager task may end before it is assigned here.
        self._fetching = False
        self._fetcher: asyncio.Task[None] | None = None
        self._asking = 0  # how many callers wait in psycopg_pool themselves

    @property
    def waiting(self) -> int:
        """How many callers wait for a connection."""
        return len(self._waiters) + self._asking

    def has_free(self) -> bool:
        """Whether a lease now would not wait for the end of another. Called on the loop."""
        stats = self.pool.get_stats()
        growth = self.pool.max_size - stats.get("pool_size", 0)
        free = len(self._at_hand) + stats.get("pool_available", 0) + growth
        return free > self.waiting

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return wait_on(self.loop, coroutine)

    def open(self) -> None:
        """Start the pool if it is not open."""
        if self.pool.closed:
            self._wait(self._open())

    async def _open(self) -> None:
        """Start the pool's tasks in an empty context: they outlive the request that came first."""
        await self.loop.create_task(self.pool.open(), context=contextvars.Context())

    def getconn(self) -> CooperativeConnection:
        """Lease a connection.

        Raises `psycopg_pool.PoolTimeout` if none comes free in time; the message names the holders,
        and since when they hold.
        """
        if asyncio._get_running_loop() is self.loop and (near := self.take()) is not None:
            return near
        try:
            face: CooperativeConnection = self._wait(self._lease())
        except PoolTimeout as error:
            raise PoolTimeout(self._exhausted(error)) from None
        self.out[face] = (actor(), time.monotonic())
        return face

    def take(self) -> CooperativeConnection | None:
        """Lease a ready connection, or return None. Called on the loop; never waits."""
        while self._at_hand:
            face = self._at_hand.pop()
            if not face.is_lost:
                self.out[face] = (actor(), time.monotonic())
                return face
            self._put_soon(face.twin)
        return None

    async def _lease(self) -> CooperativeConnection:
        """Lease a connection: ready, returned, or of psycopg_pool. Runs on the loop."""
        near = self.take()
        if near is not None:
            return near
        if not self.looks:
            return await self._turn()
        self._asking += 1
        try:
            return await self._borrow()
        finally:
            self._asking -= 1

    async def _borrow(self) -> CooperativeConnection:
        twin: Any = await self.pool.getconn()
        face = _face(twin)
        face._pool = cast(Any, self)
        face.lent_at = time.monotonic()
        return face

    async def _turn(self) -> CooperativeConnection:
        """Wait for a connection, no longer than the pool would."""
        pool, waiters = self.pool, self._waiters
        if pool.max_waiting and len(waiters) >= pool.max_waiting:
            raise TooManyRequests(
                f"the pool of {self.alias!r} has already {len(waiters)} requests waiting"
            )
        waiter: asyncio.Future[CooperativeConnection] = self.loop.create_future()
        waiters.append(waiter)
        if not self._fetching:
            self._fetching = True
            # The task serves all waiters, so its context is empty.
            self._fetcher = self.loop.create_task(self._fetch(), context=contextvars.Context())
        time = pool.timeout
        expiry = self.loop.call_later(time, _expire, waiter, time, context=NOBODYS)
        try:
            return await waiter
        except BaseException:
            if waiter in waiters:
                waiters.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                # Cancelled after it had been given one: test_pools.py,
                # test_who_is_cancelled_when_it_has_been_given_one_passes_it_on.
                self.keep_at_hand(waiter.result())
            raise
        finally:
            expiry.cancel()

    async def _fetch(self) -> None:
        """Get connections from psycopg_pool as long as somebody waits for one."""
        try:
            while self._waiters:
                try:
                    face = await self._borrow()
                except PoolTimeout:
                    # Each waiter has its own time. A timeout of 0 comes without a wait.
                    await asyncio.sleep(0)
                    continue
                if not self._hand_over(face):
                    self.keep_at_hand(face)
        except psycopg.Error as error:  # the pool has been closed
            while self._waiters:
                waiter = self._waiters.popleft()
                if not waiter.done():
                    waiter.set_exception(error)
        finally:
            self._fetching = False

    def _hand_over(self, face: CooperativeConnection) -> bool:
        """Give a connection to the longest waiter. Returns whether there was one."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(face)
                return True
        return False

    def _exhausted(self, error: PoolTimeout) -> str:
        now = time.monotonic()
        held = [f"{_name(who)} for {now - since:.1f} s" for who, since in self.out.values()]
        holders = "; ".join(held) or "nobody, so the server does not answer"
        return (
            f"{error}: no connection of the pool of DATABASES[{self.alias!r}] is free (max_size "
            f"{self.pool.max_size}). Held by: {holders}. "
            "Raise OPTIONS['pool']['max_size'], or hold connections for a shorter time."
        )

    def putconn(self, face: CooperativeConnection) -> None:
        """Return a connection without waiting. The pool closes one that is not idle."""
        on_loop(self.loop, self.putconn_soon, face, otherwise=face.shut)

    def putconn_soon(self, face: CooperativeConnection) -> None:
        """Return a connection where nothing can be awaited, such as at a task's end.

        Called on the loop.
        """
        self.out.pop(face, None)
        face._pool = None
        face.lose_streams()  # before the reset, after which their names may be others'
        if face.is_altered or face.is_lost:
            face.shut()
        if not face.is_lost and (face.must_close() or face.touched):
            closing = store().start(self._clean(face))
            closing.add_done_callback(functools.partial(_returned, face.twin))
        else:
            self._put_soon(face.twin)

    async def _clean(self, face: CooperativeConnection) -> None:
        """Remove what a chain has left on a connection; close one that cannot be cleaned."""
        try:
            async with asyncio.timeout(LIMIT):
                await run(face.close_forgotten)
                if face.touched:
                    await self._reset(face)
        except (psycopg.Error, TimeoutError):
            face.shut()
        await self.pool.putconn(face.twin)

    async def _reset(self, face: CooperativeConnection) -> None:
        """Reset the session to what it was after `configure` (PostgreSQL: DISCARD)."""
        twin = face.twin
        if twin.pgconn.transaction_status != IDLE:
            face.shut()
            return
        await twin.set_autocommit(True)
        face.autocommit = True
        await twin.execute("DISCARD ALL")
        twin._prepared.clear()
        await self.configure(twin)

    def keep_at_hand(self, face: CooperativeConnection) -> None:
        """Return a connection on which only the ORM has run statements. Called on the loop."""
        if (
            self.looks
            or self.closed
            or not face.autocommit
            or face.pgconn.transaction_status != IDLE
            or face.must_close()
            or face.touched
            or face.is_altered
            or time.monotonic() - face.lent_at >= MAX_AT_HAND
        ):
            self.putconn_soon(face)
            return
        self.out.pop(face, None)
        if self._hand_over(face):
            return
        self._at_hand.append(face)
        if self._tidying is None:
            self._tidying = self.loop.call_later(MAX_AT_HAND, self._tidy, context=NOBODYS)

    def _tidy(self) -> None:
        """Return to psycopg_pool the connections that have been out for MAX_AT_HAND seconds."""
        self._tidying = None
        before = time.monotonic() - MAX_AT_HAND
        for face in [face for face in self._at_hand if face.lent_at <= before]:
            self._at_hand.remove(face)
            self.putconn_soon(face)
        if self._at_hand:
            self._tidying = self.loop.call_later(MAX_AT_HAND, self._tidy, context=NOBODYS)

    def _put_soon(self, twin: Twin) -> None:
        returning = store().start(self.pool.putconn(twin))
        returning.add_done_callback(functools.partial(_returned, twin))

    def close(self) -> None:
        """Close the pool; the next `getconn()` of this alias opens a new one."""
        pools = store(self.loop).pools
        if pools.get(self.alias) is self:
            del pools[self.alias]
        self._wait(self.aclose())

    async def aclose(self) -> None:
        """Close the pool; whoever asks for a pool afterwards gets a new one."""
        self.closed = True
        if self._tidying is not None:
            self._tidying.cancel()
        while self._at_hand:
            self._at_hand.pop().shut()
        await self.pool.close()

    def abandon(self) -> list[asyncio.Task[Any]]:
        """Close every connection when the loop is gone. Any thread. Returns the pool's tasks."""
        self.closed = True
        self._at_hand.clear()
        tasks = [*self.pool._workers, self.pool._sched_runner, self._fetcher]
        tasks = [task for task in tasks if task is not None]
        for task in tasks:
            # A project that closes a loop by hand need not hear of tasks that it did not start.
            task._log_destroy_pending = False  # type: ignore[union-attr]
        for twin in list(self.pool.twins):
            CooperativeConnection.over(twin).shut()
        return cast(list[asyncio.Task[Any]], tasks)


def _expire(waiter: asyncio.Future[Any], timeout: float) -> None:
    if not waiter.done():
        waiter.set_exception(PoolTimeout(f"couldn't get a connection after {timeout:.2f} sec"))


def _name(who: Actor) -> str:
    """The name of a task or thread in an error message."""
    if isinstance(who, asyncio.Task):
        function = getattr(who.get_coro(), "__qualname__", "a coroutine")
        return f"task {who.get_name()!r} ({function})"
    return f"thread {who}"


def _returned(twin: Twin, task: asyncio.Task[None]) -> None:
    """Close a connection whose return the loop's end has cancelled."""
    if task.cancelled() or task.exception() is not None:
        CooperativeConnection.over(twin).shut()


def bridge_pool(wrapper: Managed) -> BridgePool:
    """The pool of the wrapper's alias on its chain's loop, made at its first use."""
    pools = watched_store(wrapper).pools
    pool = pools.get(wrapper.alias)
    if pool is None:
        options = wrapper.settings_dict["OPTIONS"]["pool"]
        made = _make_pool(wrapper, {} if options is True else dict(options))
        pool = pools[wrapper.alias] = made
    return cast(BridgePool, pool)


def _make_pool(wrapper: Any, options: dict[str, Any]) -> BridgePool:
    """Build the pool from the options that Django's own pool takes."""
    if wrapper.settings_dict.get("CONN_MAX_AGE", 0) != 0:
        raise ImproperlyConfigured("Pooling doesn't support persistent connections.")
    parameters = wrapper.get_connection_params()
    parameters["autocommit"] = True
    if "check" not in options and wrapper.settings_dict["CONN_HEALTH_CHECKS"]:
        options["check"] = AsyncConnectionPool.check_connection
    elif "check" in options:
        options["check"] = _adapted(options["check"])
    if "reset" in options:
        options["reset"] = _adapted(options["reset"])
    # A copy, because the pool outlives the chain whose wrapper this is.
    configure = wrapper.copy()._configure_connection

    async def configure_face(twin: Twin) -> None:
        pool.twins.add(twin)
        face = _face(twin)
        face._pool = None  # psycopg's mark of a pooled connection
        try:
            await run(configure, face)
        except BaseException:
            face.shut()  # nobody else knows of it yet
            raise
        face.begin()

    pool = LoopPool(kwargs=parameters, configure=configure_face, **options)
    looks = bool(options.get("check") or options.get("reset"))
    return BridgePool(wrapper.alias, pool, wrapper.aio.loop, looks, configure_face)


def _adapted(callback: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Adapt a callback for Django's synchronous pool to the asynchronous one."""
    if callback is None or asyncio.iscoroutinefunction(callback):
        return callback

    async def call(twin: Twin) -> None:
        await run(callback, _face(twin))
        _face(twin).begin()  # the callback prepares every lease

    return call


def _face(twin: Twin) -> CooperativeConnection:
    """The synchronous face of a pooled connection, made once and kept with it."""
    return CooperativeConnection.over(twin)
