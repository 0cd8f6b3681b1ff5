"""PostgreSQL through psycopg 3: every wait of a connection goes through the loop.

psycopg waits in exactly one method, `Connection.wait(generator)`. `CooperativeConnection` overrides
it, so that Django's whole PostgreSQL backend (cursors, server-side cursors, COPY, GIS, third-party
engines that derive from it) is cooperative inside the bridge and unchanged outside.

One libpq handle has two faces: the synchronous one that Django uses, and its twin, an ordinary
`psycopg.AsyncConnection`, which connects, waits and cancels, and which a pool holds. A cancelled
statement is cancelled on the server too; if that does not end it within 5 s psycopg closes the
connection. (psycopg 3 documentation, "Concurrent operations".)
"""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Self, cast

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.signals import connection_created
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait

from django_aio.bridge import in_bridge, wait
from django_aio.conf import OURS, is_below
from django_aio.db.backends import utils
from django_aio.db.pool import part, store
from django_aio.parts import module_of

IDLE = TransactionStatus.IDLE
WAIT_R = Wait.R
READY_R = Ready.R

# How long statements that need no wait may keep the loop from other tasks, in seconds.
MAX_BUSY_TIME = 0.005


class ConnectionLock:
    """psycopg's lock of a connection, which it holds while it waits.

    A `threading.Lock` held across a wait would stop the loop as soon as a second task asked for it.
    This one is a `threading.Lock` outside the bridge and waits on the loop inside. Any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def acquire(self) -> bool:
        """Take the lock."""
        if self._lock.acquire(blocking=False):
            return True
        if in_bridge():
            wait(self._turn())
            return True
        return self._lock.acquire()

    def release(self) -> None:
        """Give the lock back, to a task that waits if there is one."""
        self._lock.release()
        self._wake()

    def _wake(self) -> None:
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.get_loop().call_soon_threadsafe(self._give_turn, waiter)
                return

    def _give_turn(self, waiter: asyncio.Future[None]) -> None:
        if waiter.done():
            self._wake()  # cancelled in the meantime: the next one's turn
        else:
            waiter.set_result(None)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            waiter = loop.create_future()
            # First in the queue, then the second try: a release in between wakes this waiter.
            self._waiters.append(waiter)
            try:
                if self._lock.acquire(blocking=False):
                    return
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # the turn was given to this task: pass it on
                raise
            finally:
                self._waiters.remove(waiter)


class CooperativeConnection(psycopg.Connection[Any]):
    """A psycopg connection that waits on the loop inside the bridge, and blocks outside as ever."""

    _twin: psycopg.AsyncConnection[Any] | None = None
    # During clean-up a first cancellation is put off to its end.
    cleaning_up = False
    put_off: asyncio.CancelledError | None = None
    lent_at = 0.0  # when its pool last lent it, by time.monotonic()
    _yielded = 0.0  # when the loop last went on during a wait of this connection

    def __init__(self, pgconn: Any, *args: Any) -> None:
        super().__init__(pgconn, *args)
        self.lock = ConnectionLock()  # type: ignore[assignment]

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect to a server, as `psycopg.connect()` does; inside the bridge, on the loop."""
        if not in_bridge():
            return super().connect(conninfo, **kwargs)
        found = store()
        if not found.watched:
            wait(found.watch())
        cursor_factory = kwargs.pop("cursor_factory", None)
        row_factory = kwargs.pop("row_factory", None)
        face = cls.over(wait(psycopg.AsyncConnection.connect(conninfo, **kwargs)))
        if cursor_factory:
            face.cursor_factory = cursor_factory
        if row_factory:
            face.row_factory = row_factory
        return face

    @classmethod
    def over(cls, twin: psycopg.AsyncConnection[Any]) -> Self:
        """The synchronous face over an asynchronous connection. Made once for each."""
        face = getattr(twin, "_aio_face", None)
        if face is None:
            face = cls(twin.pgconn)
            face._share(twin)
            face._autocommit = twin.autocommit
            twin._aio_face = face  # type: ignore[attr-defined]
        return cast(Self, face)

    @property
    def twin(self) -> psycopg.AsyncConnection[Any]:
        """The asynchronous face, which does the waiting."""
        if self._twin is None:
            handlers = self.pgconn.notice_handler, self.pgconn.notify_handler
            twin: psycopg.AsyncConnection[Any] = psycopg.AsyncConnection(self.pgconn)
            # Notices and notifications go to the face that Django and its users know.
            self.pgconn.notice_handler, self.pgconn.notify_handler = handlers
            twin._adapters, twin._prepared = self._adapters, self._prepared
            self._share(twin)
            twin._aio_face = self  # type: ignore[attr-defined]
        return cast("psycopg.AsyncConnection[Any]", self._twin)

    def _share(self, twin: psycopg.AsyncConnection[Any]) -> None:
        """Make `twin` the other face.

        One registry of prepared statements serves both, or each would prepare its own under the
        same name.
        """
        self._twin = twin
        self._adapters, self._prepared = twin._adapters, twin._prepared
        # The face warns if it is forgotten while open; the twin need not say it again.
        twin._pool = getattr(twin, "_pool", None)

    def set_autocommit(self, value: bool) -> None:
        """Set the autocommit mode. Django asks for it on every lease, and nearly always has it."""
        if value != self._autocommit or self.pgconn.transaction_status != IDLE:
            self._at_once(super().set_autocommit, value)

    def set_isolation_level(self, value: psycopg.IsolationLevel | None) -> None:
        """Set the isolation level of the transactions to come."""
        self._at_once(super().set_isolation_level, value)

    def _at_once(self, setter: Callable[[Any], None], value: Any) -> None:
        """Set what the server is not told. The loop does not go on.

        A cancellation there would leave Django with another mode in mind than the connection has,
        and the next writes in a transaction that nobody commits.
        """
        yielded, self._yielded = self._yielded, math.inf
        try:
            setter(value)
        finally:
            self._yielded = yielded

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run psycopg's generator to its end: on the loop inside the bridge, else by blocking.

        Nearly every statement is sent at once and then waits for its answer. That case is handled
        here, with one switch; whatever else a generator asks for, psycopg's asynchronous wait does.
        """
        if not in_bridge():
            return super().wait(gen, *args, **kwargs)
        if args or kwargs:
            return wait(self.twin.wait(gen, *args, **kwargs))
        try:
            wanted = next(gen)
            while wanted == WAIT_R:
                try:
                    self._until_readable()
                except asyncio.CancelledError as error:
                    if not self.cleaning_up or self.put_off is not None:
                        raise
                    self.put_off = error
                else:
                    wanted = gen.send(READY_R)
        except StopIteration as done:
            if monotonic() - self._yielded > MAX_BUSY_TIME:
                # Many short steps that never wait, as in COPY, must not keep the loop busy.
                wait(asyncio.sleep(0))
                self._yielded = monotonic()
            return done.value
        except asyncio.CancelledError:
            return wait(self.twin.wait(cast(Any, _Interrupted(gen, WAIT_R))))
        return wait(self.twin.wait(cast(Any, _Resumed(gen, wanted))))

    def _until_readable(self) -> None:
        loop, socket = asyncio.get_running_loop(), self.pgconn.socket
        answered = loop.create_future()
        loop.add_reader(socket, _resolve, answered)
        try:
            wait(answered)
        finally:
            loop.remove_reader(socket)
        self._yielded = monotonic()


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Resumed:
    """A psycopg generator that has begun, for a function that begins what it is given."""

    def __init__(self, gen: Any, wanted: Any) -> None:
        self._gen = gen
        self._wanted = wanted

    def __next__(self) -> Any:
        return self._wanted

    def send(self, ready: Any) -> Any:
        """Go on, as the generator's own `send()`."""
        return self._gen.send(ready)


class _Interrupted(_Resumed):
    """One whose wait was cancelled: psycopg finds that out, and cancels on the server."""

    _told = False

    def __next__(self) -> Any:
        if not self._told:
            self._told = True
            raise asyncio.CancelledError
        return self._wanted


class PostgreSQLDriver:
    """How a chain judges and drops a psycopg connection."""

    def adopt(self, wrapper: Any) -> None:
        """Have it draw on the pool of its loop, if it has one and is to be pooled."""
        pooled = wrapper.settings_dict["OPTIONS"].get("pool") and wrapper.alias != NO_DB_ALIAS
        wrapper.aio.pooled = bool(pooled) and wrapper.aio.loop is not None
        wrapper.aio.stateful = not type(wrapper).__module__.startswith("django.")

    def is_idle(self, wrapper: Any) -> bool:
        """Whether the server has no transaction open and no statement running."""
        return bool(wrapper.connection.pgconn.transaction_status == IDLE)

    def drop(self, wrapper: Any) -> None:
        """Return the connection to its pool if it is idle; else close it, which rolls back.

        Closing sends one message and does not wait for the server.
        """
        idle = self.is_idle(wrapper)
        connection, wrapper.connection = wrapper.connection, None
        lender = getattr(connection, "_pool", None)
        if not idle or lender is None:
            connection.pgconn.finish()
        if lender is not None:
            lender.putconn_soon(connection)

    def lease(self, wrapper: Any) -> Any:
        """A connection of the pool for a wrapper that connecting would change nothing else on."""
        pool = wrapper.aio.pool
        if (
            pool is None
            or pool.closed
            # Nor does one have it that was never connected, or that a transaction has closed.
            or not wrapper.autocommit
            or not wrapper.settings_dict["AUTOCOMMIT"]
            or wrapper.errors_occurred
            or (connection_created.receivers and not _only_djangos(connection_created))
        ):
            return None
        found = pool.take()
        if found is None:
            with wrapper.wrap_database_errors:
                found = pool.getconn()
            _set_right(wrapper, found)
        return found

    def may_keep(self, wrapper: Any) -> bool:
        """Whether nothing is wrong with it."""
        return not wrapper.errors_occurred and self.is_idle(wrapper)

    def part(self, wrapper: Any) -> None:
        """Return a connection that was kept to its pool."""
        kept, wrapper.aio.kept = wrapper.aio.kept, None
        kept._pool.keep_at_hand(kept)


def _set_right(wrapper: Any, face: CooperativeConnection) -> None:
    """Set what Django sets on a connection from a pool: who had it may have set something else."""
    if not face.autocommit:
        face.autocommit = True
    if "isolation_level" in wrapper.settings_dict["OPTIONS"]:
        face.isolation_level = wrapper.isolation_level


def _only_djangos(signal: Any) -> bool:
    """Whether nobody listens to a signal but Django.

    Its receivers of `connection_created` prepare the physical connection, once and for all.
    """
    receivers = (entry[1] for entry in signal.receivers)
    alive = (each() if isinstance(each, weakref.ReferenceType) else each for each in receivers)
    return all(each is None or is_below(module_of(each), OURS) for each in alive)


def database(upstream: types.ModuleType) -> types.ModuleType:
    """`DatabaseWrapper.Database`: the psycopg module, with `connect()` making our connections."""
    module = types.ModuleType(upstream.__name__, upstream.__doc__)
    module.__dict__.update(upstream.__dict__)
    module.__dict__["connect"] = CooperativeConnection.connect
    return module


def _cooperative(sync_pool: Any) -> Any:
    """Django's own pool, so that its connections can be used inside the bridge as well."""
    if sync_pool is not None and sync_pool.connection_class is psycopg.Connection:
        sync_pool.connection_class = CooperativeConnection
    return sync_pool


def _bridge_pool(wrapper: Any) -> Any:
    try:
        from django_aio.db.backends.pools import bridge_pool
    except ImportError as error:
        raise ImproperlyConfigured(
            f"DATABASES[{wrapper.alias!r}]['OPTIONS']['pool'] needs psycopg_pool, which cannot be "
            "imported. Install it with 'pip install django-aio[postgresql]'."
        ) from error
    return bridge_pool(wrapper)


def backend_pool(upstream: property) -> property:
    """`DatabaseWrapper.pool`: inside the bridge, the loop's own asynchronous pool."""
    get = cast(Callable[[Any], Any], upstream.fget)

    def pool_of(self: Any) -> Any:
        """The pool that connections are leased from, or None."""
        state = self.aio
        if state is None or not state.pooled:
            return _cooperative(get(self))
        # Django asks several times for each connection. A wrapper stays with one loop.
        if state.pool is None or state.pool.closed:
            state.pool = _bridge_pool(self)
        return state.pool

    return property(pool_of)


def chunked_cursor(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`DatabaseWrapper.chunked_cursor`: closing a server-side cursor is not given up half-way.

    A cursor WITH HOLD that a cancelled task left open would stay with the connection.
    """

    @functools.wraps(upstream)
    def chunked_cursor(self: Any) -> Any:
        cursor = upstream(self)
        connection, close = self.connection, cursor.close
        if isinstance(connection, CooperativeConnection):

            def close_surely() -> None:
                connection.cleaning_up = True
                try:
                    close()
                except psycopg.Error:
                    if connection.closed:
                        close()  # nothing is left on the server: this only marks the cursor
                    raise
                finally:
                    connection.cleaning_up = False
                    cancelled, connection.put_off = connection.put_off, None
                    if cancelled is not None:
                        raise cancelled

            cursor.close = close_surely
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
