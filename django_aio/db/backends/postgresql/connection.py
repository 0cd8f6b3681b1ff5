"""psycopg's connection, made to wait on the loop inside the bridge.

`CooperativeConnection` is psycopg's synchronous connection with another way to wait
(`waiting.py`), so that Django's whole PostgreSQL backend (cursors, server-side cursors, COPY, GIS,
third-party engines that derive from it) is cooperative inside the bridge and unchanged outside.

One libpq handle has two faces: the synchronous one that Django uses, and its asynchronous twin,
which connects and cancels, and which a pool holds. Both wait by `drive()`, so that one place knows
who waits on the socket. Guarded by `tests/db/backends/test_postgresql.py`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Self, cast

import psycopg
from psycopg.pq import TransactionStatus

from django_aio.bridge import in_bridge, run, wait
from django_aio.db.backends.postgresql.lock import ConnectionLock
from django_aio.db.backends.postgresql.waiting import ACTIVE, WaitingConnection
from django_aio.db.backends.postgresql.watch import Watch
from django_aio.db.shield import LIMIT
from django_aio.loops import store

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGcancel, PGconn

    from django_aio.db.backends.postgresql.stream import Stream

IDLE = TransactionStatus.IDLE
INTRANS = TransactionStatus.INTRANS

logger = logging.getLogger("django_aio.db")


class CooperativeConnection(WaitingConnection):
    """A psycopg connection that waits on the loop inside the bridge, and blocks outside.

    Used by one chain at a time; `shut()` and `interrupt()` by any thread.
    """

    def __init__(self, pgconn: PGconn, *args: Any) -> None:
        super().__init__(pgconn, *args)
        self._twin: Twin | None = None
        self.lent_at = 0.0  # when its pool last lent it, by time.monotonic()
        self._inside = ConnectionLock()
        self.lock = self._inside  # type: ignore[assignment]
        # Server-side cursors: the open ones, and the forgotten ones, which the next statement here
        # closes on the server. They may end in a destructor, where nobody can wait.
        self.open_streams: set[Stream] = set()
        self.forgotten: list[Stream] = []

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect to a server, as `psycopg.connect()` does; inside the bridge, on the loop.

        Calls a tracer that has wrapped `psycopg.Connection.connect`, which may pass a cursor
        factory or return a proxy.
        """
        return cls.made(super().connect(conninfo, **kwargs))

    @classmethod
    def made(cls, face: Self) -> Self:
        """Make `face`, which `connect()` returned, the one that its twin knows."""
        twin = face._twin
        if twin is not None:
            twin.face, twin._adapters = face, face._adapters
            twin._autocommit = face._autocommit
        return face

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Any:
        """Connect for psycopg. Inside the bridge the generator waits itself instead of yielding."""
        if not in_bridge():
            return (yield from super()._connect_gen(conninfo))
        found = store()
        if not found.watched:
            wait(found.watch())
        return cls.over(wait(Twin.reach(conninfo)))

    @classmethod
    def over(cls, twin: Twin) -> Self:
        """The synchronous face of an asynchronous connection, made at the first call."""
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
            # Notices and notifications must go on to the face that Django and its users know.
            self.pgconn.notice_handler, self.pgconn.notify_handler = handlers
            twin._adapters, twin._prepared = self._adapters, self._prepared
            self._share(twin)
        return cast(Twin, self._twin)

    def _share(self, twin: Twin) -> None:
        """Make `twin` the other face.

        Both share one registry of prepared statements. With two, each would prepare its own
        statements under the same names.
        """
        self._twin, twin.face = twin, self
        self._adapters, self._prepared = twin._adapters, twin._prepared
        # The face warns if it is collected while open; the twin must not warn again.
        twin._pool = getattr(twin, "_pool", None)

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
        """Whether a left cursor is open on the server. Without hold it ends with a transaction."""
        if self.forgotten and self.pgconn.transaction_status == IDLE:
            for stream in self.forgotten:
                if not stream.withhold:
                    stream.end(tell=False)
            self.forgotten = [stream for stream in self.forgotten if stream.withhold]
        return bool(self.forgotten)

    def lose_streams(self) -> None:
        """Take the server-side cursors from their holders, because the chain gives this up."""
        for stream in tuple(self.open_streams):
            stream.lose()

    def forget(self, stream: Stream) -> None:
        """Have a server-side cursor closed later. Waits for nothing; any thread."""
        if self.is_lost:
            stream.end(tell=False)
        else:
            self.forgotten.append(stream)

    async def _wait_by_psycopg(self, gen: PQGen[Any], *args: Any, **kwargs: Any) -> Any:
        return await self.twin.wait(gen, *args, **kwargs)

    async def _cancel_on_server(self) -> None:
        try:
            await self.twin.cancel_safe(timeout=LIMIT)
        except psycopg.Error as error:
            logger.warning("A statement could not be cancelled on the server: %s", error)

    def interrupt(self) -> concurrent.futures.Future[None]:
        """Cancel the running statement on the server. Waits for nothing; any thread.

        Returns a future that is done when the server has had the request.
        """
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        threading.Thread(target=_cancel_by, args=(self.pgconn.get_cancel(), done)).start()
        return done

    def shut(self) -> None:
        """Close the connection without waiting for the server. Any thread.

        A waiter on the socket gets an error first (R9). Under a thread inside libpq the socket is
        shut down instead: freeing the handle there would crash the process.

        The server does not notice before the running statement ends, so that is cancelled as well.
        Guarded by `tests/db/backends/test_postgresql.py`, the tests `test_closing_...`.
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
                # That thread may just be sending a statement, which the status does not show yet.
                threading.Thread(target=_cancel_by, args=(request,)).start()
            return
        loop = waiting.loop
        if loop is not asyncio._get_running_loop() and loop.is_running():
            loop.call_soon_threadsafe(self.shut)
        else:
            self._finish()

    def close(self) -> None:
        """Close the connection, as psycopg does. A waiter on the socket gets an error."""
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
        """End the forgotten cursors with the connection."""
        while self.forgotten:
            self.forgotten.pop().end(tell=False)


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
        """Close the connection, as a pool does with one that it does not need."""
        if self.face is not None:
            self.face._wake()
            self.face._mark_forgotten()
        await super().close()

    async def wait(self, gen: PQGen[Any], *args: Any, **kwargs: Any) -> Any:
        """Run psycopg's generator to its end."""
        face = CooperativeConnection.over(self)
        if not args and not kwargs:
            return await face.drive(gen)
        # With a time limit, as for notifications: psycopg then polls.
        face._waiting = watch = Watch(asyncio.get_running_loop(), self.pgconn.socket)
        try:
            return await super().wait(face._while_open(gen), *args, **kwargs)
        finally:
            if face._waiting is watch:
                face._waiting = None


def _cancel_by(request: PGcancel, done: concurrent.futures.Future[None] | None = None) -> None:
    """Send a cancel request, in a thread: it blocks until the server has had it."""
    with contextlib.suppress(psycopg.Error):
        request.cancel()
    if done is not None:
        done.set_result(None)


def _hang_up(descriptor: int) -> None:
    """End both directions of a socket that stays open."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)
