"""The connection: psycopg's, which waits on the loop inside the bridge.

psycopg waits in exactly one method, `Connection.wait(generator)`. `CooperativeConnection` overrides
it, so that Django's whole PostgreSQL backend (cursors, server-side cursors, COPY, GIS, third-party
engines that derive from it) is cooperative inside the bridge and unchanged outside.

One libpq handle has two faces: the synchronous one that Django uses, and its twin, which connects
and cancels, and which a pool holds. Both wait by `drive()`, so that one place knows who waits on
the socket: before a connection is closed the waiter gets an error and the loop lets go of the
descriptor (R9).

A cancelled statement is cancelled on the server too, however often its task is cancelled meanwhile;
if that does not end it within `LIMIT` seconds the connection is closed. (psycopg 3 documentation,
"Concurrent operations".)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, Self, cast

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.waiting import Ready, Wait

from django_aio.bridge import in_bridge, run, wait
from django_aio.db.backends.postgresql.lock import ConnectionLock
from django_aio.db.backends.postgresql.marks import MarkedConnection
from django_aio.db.backends.postgresql.watch import Watch, resolve
from django_aio.db.pool import store
from django_aio.db.shield import LIMIT, put_off, to_its_end

IDLE = TransactionStatus.IDLE
INTRANS = TransactionStatus.INTRANS
ACTIVE = TransactionStatus.ACTIVE
BAD = ConnStatus.BAD
WAIT_R = Wait.R
READY_R = Ready.R

# How long statements that need no wait may keep the loop from other tasks, in seconds.
MAX_BUSY_TIME = 0.005

CLOSED = "The connection was closed while this statement was waiting for its answer."

logger = logging.getLogger("django_aio.db")


class CooperativeConnection(MarkedConnection):
    """A psycopg connection that waits on the loop inside the bridge, and blocks outside.

    Used by one chain at a time; `shut()` and `interrupt()` by any thread.
    """

    def __init__(self, pgconn: Any, *args: Any) -> None:
        super().__init__(pgconn, *args)
        self._twin: Twin | None = None
        self.lent_at = 0.0  # when its pool last lent it, by time.monotonic()
        self._yielded = 0.0  # when the loop last went on during a wait of this connection
        # Who waits on the socket. Written by the thread of that loop.
        self._waiting: Watch | None = None
        self._inside = ConnectionLock()
        self.lock = self._inside  # type: ignore[assignment]
        # Server-side cursors: those that are open, and those to be closed on the server by whoever
        # next runs a statement here. Their end may come in a destructor, where nobody can wait.
        self.open_streams: set[Any] = set()
        self.forgotten: list[Any] = []

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect to a server, as `psycopg.connect()` does; inside the bridge, on the loop.

        Whoever has wrapped `psycopg.Connection.connect`, to trace it, is called, and may pass a
        cursor factory or return a proxy.
        """
        return cls.made(super().connect(conninfo, **kwargs))

    @classmethod
    def made(cls, face: Self) -> Self:
        """What `connect()` made: the one that its twin knows, with all that was set on it."""
        twin = face._twin
        if twin is not None:
            twin.face, twin._adapters = face, face._adapters
            twin._autocommit = face._autocommit
        return face

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Any:
        """What psycopg connects by. Inside the bridge it waits by itself, not by yielding."""
        if not in_bridge():
            return (yield from super()._connect_gen(conninfo))
        found = store()
        if not found.watched:
            wait(found.watch())
        return cls.over(wait(Twin.reach(conninfo)))

    @classmethod
    def over(cls, twin: Twin) -> Self:
        """The synchronous face over an asynchronous connection. Made once for each."""
        face = twin.face
        if face is None:
            face = cls(twin.pgconn)
            face._share(twin)
            face._autocommit = twin.autocommit
        return cast(Self, face)

    @property
    def twin(self) -> Twin:
        """The asynchronous face, which connects and cancels."""
        if self._twin is None:
            handlers = self.pgconn.notice_handler, self.pgconn.notify_handler
            twin = Twin(self.pgconn)
            # Notices and notifications go to the face that Django and its users know.
            self.pgconn.notice_handler, self.pgconn.notify_handler = handlers
            twin._adapters, twin._prepared = self._adapters, self._prepared
            self._share(twin)
        return cast(Twin, self._twin)

    def _share(self, twin: Twin) -> None:
        """Make `twin` the other face.

        One registry of prepared statements serves both, or each would prepare its own under the
        same name.
        """
        self._twin, twin.face = twin, self
        self._adapters, self._prepared = twin._adapters, twin._prepared
        # The face warns if it is forgotten while open; the twin need not say it again.
        twin._pool = getattr(twin, "_pool", None)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to be closed or broken."""
        return bool(self.pgconn.status == BAD)

    def close_forgotten(self) -> None:
        """Close the server-side cursors that ended where nobody could wait."""
        while self.forgotten:
            left = self.forgotten.pop()
            try:
                left.end(tell=True)
            except BaseException as error:
                left.end(tell=False)
                if not (self.is_lost and isinstance(error, psycopg.Error)):
                    raise

    def must_close(self) -> bool:
        """Whether a cursor is open on the server. One without hold ends with its transaction."""
        if self.forgotten and self.pgconn.transaction_status == IDLE:
            for stream in self.forgotten:
                if not stream.withhold:
                    stream.end(tell=False)
            self.forgotten = [stream for stream in self.forgotten if stream.withhold]
        return bool(self.forgotten)

    def lose_streams(self) -> None:
        """Whoever holds a server-side cursor has lost it: its chain has no more to do with this."""
        for stream in tuple(self.open_streams):
            stream.lose()

    def forget(self, stream: Any) -> None:
        """Have a server-side cursor closed later on. Waits for nothing; any thread."""
        if self.is_lost:
            stream.end(tell=False)
        else:
            self.forgotten.append(stream)

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
        here, with one switch for each wait.
        """
        if not in_bridge():
            return super().wait(gen, *args, **kwargs)
        if args or kwargs:
            return wait(self.twin.wait(gen, *args, **kwargs))
        try:
            wanted = next(gen)
            while wanted == WAIT_R:
                self._until_readable()
                wanted = gen.send(READY_R)
        except StopIteration as done:
            if monotonic() - self._yielded > MAX_BUSY_TIME:
                self._let_the_loop_go_on()
            return done.value
        except asyncio.CancelledError as error:
            return wait(self._cancelled(gen, WAIT_R, error))
        return wait(self.drive(gen, wanted))

    def _until_readable(self) -> None:
        loop, descriptor = asyncio.get_running_loop(), self.pgconn.socket
        self._waiting = watch = Watch(loop, descriptor)
        watch.waiter = answered = loop.create_future()
        loop.add_reader(descriptor, resolve, answered)
        try:
            wait(answered)
        finally:
            closed = self._waiting is not watch
            if not closed:
                self._waiting = None
                loop.remove_reader(descriptor)
        if closed:
            # After its answer had come, but before this. The generator has a pointer to what is
            # freed now.
            raise psycopg.OperationalError(CLOSED)
        self._yielded = monotonic()

    def _let_the_loop_go_on(self) -> None:
        """Many short steps that never wait, as in COPY, must not keep the loop busy."""
        try:
            wait(asyncio.sleep(0))
        except asyncio.CancelledError as error:
            if put_off(error) is None:
                raise
        self._yielded = monotonic()

    async def drive(self, gen: Any, wanted: int | None = None) -> Any:
        """Run a psycopg generator to its end on the loop. `wanted` if it has begun."""
        try:
            if wanted is None:
                wanted = next(gen)
            while True:
                wanted = gen.send(await self._ready(wanted))
        except StopIteration as done:
            return done.value
        except asyncio.CancelledError as error:
            assert wanted is not None
            return await self._cancelled(gen, wanted, error)

    async def _ready(self, wanted: int, deadline: float | None = None) -> int:
        """Wait until the socket is ready for what is wanted.

        With a deadline (time.monotonic()) cancellations are ignored until then, and TimeoutError is
        raised.
        """
        watch = Watch(asyncio.get_running_loop(), self.pgconn.socket)
        timer = None
        if deadline is not None:
            timer = watch.loop.call_later(max(0.0, deadline - monotonic()), watch.wake)
        watch.add(wanted)
        self._waiting = watch
        try:
            # Between two cancellations the loop goes on watching: it might not have had the time
            # to see the answer, if the task is cancelled in each of its turns.
            while not await watch.answered(insists=deadline is not None):
                if deadline is not None and monotonic() >= deadline:
                    raise TimeoutError
        finally:
            if timer is not None:
                timer.cancel()
            closed = self._waiting is not watch
            if not closed:
                self._waiting = None
                watch.remove()
        if closed:
            raise psycopg.OperationalError(CLOSED)
        self._yielded = monotonic()
        return watch.ready

    async def _cancelled(self, gen: Any, wanted: int, error: asyncio.CancelledError) -> Any:
        """Go on after a cancellation during a wait.

        Where the task is shielded the statement goes on, until the shield's deadline. Elsewhere it
        is cancelled on the server, and the cancellation is raised when its answer has been read.
        """
        shield = put_off(error)
        if shield is not None:
            return await self._drain(gen, wanted, shield.deadline)
        if self.pgconn.transaction_status == ACTIVE:
            deadline = monotonic() + LIMIT
            try:
                await to_its_end(self._cancel_on_server(), LIMIT)
            except TimeoutError:
                self._finish()  # the request must not meet another statement
                raise error from None
            except asyncio.CancelledError:
                pass
            with contextlib.suppress(psycopg.Error):  # as expected
                await self._drain(gen, wanted, deadline)
            if self.pgconn.transaction_status == ACTIVE:
                self._finish()
        raise error

    async def _drain(self, gen: Any, wanted: int, deadline: float) -> Any:
        """Run the generator to its end, however often the task is cancelled.

        At the deadline the connection is closed, with an OperationalError.
        """
        try:
            while True:
                wanted = gen.send(await self._ready(wanted, deadline))
        except StopIteration as done:
            return done.value
        except TimeoutError:
            self._finish()
            raise psycopg.OperationalError(
                f"The task was cancelled and the server has not answered for {LIMIT:g} s: the "
                "connection was closed."
            ) from None

    async def _cancel_on_server(self) -> None:
        try:
            await self.twin.cancel_safe(timeout=LIMIT)
        except psycopg.Error as error:
            logger.warning("A statement could not be cancelled on the server: %s", error)

    def _while_open(self, gen: Any) -> Generator[Any, Any, Any]:
        """The generator, which is not advanced once the connection was closed under it."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if self.is_lost:
                    raise psycopg.OperationalError(CLOSED)
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value

    def interrupt(self) -> concurrent.futures.Future[None]:
        """Cancel the statement that runs now, on the server. Waits for nothing; any thread.

        Returns what is done when the server has had the request.
        """
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        threading.Thread(target=_cancel_by, args=(self.pgconn.get_cancel(), done)).start()
        return done

    def shut(self) -> None:
        """Close the connection without waiting for the server. Any thread.

        Whoever waits on its socket gets an error first (R9). A thread that is inside libpq with it
        finds its socket at an end instead: freeing the handle under it would crash the process.

        The server does not notice before a statement has ended, so that is cancelled as well.
        """
        if self.is_lost:
            self._mark_forgotten()
            return
        waiting = self._waiting
        if waiting is None:
            if self._inside.acquire_now():
                self._finish()
                self._inside.release()
            else:
                request = self.pgconn.get_cancel()
                _hang_up(self.pgconn.socket)
                # It may have been sending a statement just now, which does not show yet.
                threading.Thread(target=_cancel_by, args=(request,)).start()
            return
        loop = waiting.loop
        if loop is not asyncio._get_running_loop() and loop.is_running():
            loop.call_soon_threadsafe(self.shut)
        else:
            self._finish()

    def close(self) -> None:
        """Close the connection, as psycopg does. Whoever waits on its socket gets an error."""
        if getattr(self, "_pool", None) is not None and not self.is_lost:
            super().close()
        else:
            self._closed = self._closed or not self.is_lost
            self.shut()

    def _finish(self) -> None:
        self._wake()
        self._mark_forgotten()
        self._cancel_without_waiting()
        self.pgconn.finish()

    def _cancel_without_waiting(self) -> None:
        if self.pgconn.transaction_status == ACTIVE:
            threading.Thread(target=_cancel_by, args=(self.pgconn.get_cancel(),)).start()

    def _mark_forgotten(self) -> None:
        """They end with the connection."""
        while self.forgotten:
            self.forgotten.pop().end(tell=False)

    def _wake(self) -> None:
        """Have the loop let go of the socket, and its waiter know."""
        watch, self._waiting = self._waiting, None
        if watch is None or watch.loop.is_closed():
            return
        watch.remove()
        if watch.waiter is not None and not watch.waiter.done():
            watch.waiter.set_exception(psycopg.OperationalError(CLOSED))


class Twin(psycopg.AsyncConnection):
    """The asynchronous face of a `CooperativeConnection`, which waits by the same `drive()`."""

    face: CooperativeConnection | None = None

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect to a server by the other face, as a pool does."""
        return cast(Self, (await run(CooperativeConnection.connect, conninfo, **kwargs)).twin)

    @classmethod
    async def reach(cls, conninfo: str) -> Self:
        """Connect to a server, and nothing else."""
        return await super().connect(conninfo)

    async def close(self) -> None:
        """Close the connection, as a pool does with one that it has no use for."""
        if self.face is not None:
            self.face._wake()
            self.face._mark_forgotten()
        await super().close()

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run psycopg's generator to its end."""
        face = CooperativeConnection.over(self)
        if not args and not kwargs:
            return await face.drive(gen)
        # With a limit of time, as for notifications: psycopg looks again now and then.
        face._waiting = watch = Watch(asyncio.get_running_loop(), self.pgconn.socket)
        try:
            return await super().wait(face._while_open(gen), *args, **kwargs)
        finally:
            if face._waiting is watch:
                face._waiting = None


def _cancel_by(request: Any, done: concurrent.futures.Future[None] | None = None) -> None:
    """Send a cancel request, in a thread: it blocks until the server has had it."""
    with contextlib.suppress(psycopg.Error):
        request.cancel()
    if done is not None:
        done.set_result(None)


def _hang_up(descriptor: int) -> None:
    """End both directions of a socket that stays open."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)
