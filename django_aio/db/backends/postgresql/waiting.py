"""How a connection waits for its server: on the loop inside the bridge, else by blocking.

psycopg waits in exactly one method, `Connection.wait(generator)`. `WaitingConnection` overrides it.
One place knows who waits on the socket (`_waiting`), so that before a connection is closed the
waiter gets an error and the loop stops watching the descriptor (R9).

A cancelled statement is cancelled on the server too, however often its task is cancelled meanwhile;
if the statement does not end within `LIMIT` seconds, the connection is closed. (psycopg 3
documentation, "Concurrent operations".) Guarded by `tests/db/backends/test_postgresql.py` and
`tests/db/test_faults.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.waiting import Ready, Wait

from django_aio.bridge import in_bridge, wait
from django_aio.db.backends.postgresql.marks import MarkedConnection
from django_aio.db.backends.postgresql.watch import Watch, resolve
from django_aio.db.shield import LIMIT, await_within, put_off

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn

V = TypeVar("V")

IDLE = TransactionStatus.IDLE
ACTIVE = TransactionStatus.ACTIVE
BAD = ConnStatus.BAD
WAIT_R = Wait.R
READY_R = Ready.R

# How long statements that need no wait may keep the loop from other tasks, in seconds.
MAX_BUSY_TIME = 0.005

CLOSED = "The connection was closed while this statement was waiting for its answer."


class WaitingConnection(MarkedConnection):
    """A psycopg connection that waits on the loop inside the bridge, and blocks outside.

    Used by one chain at a time.
    """

    def __init__(self, pgconn: PGconn, *args: Any) -> None:
        super().__init__(pgconn, *args)
        self._yielded = 0.0  # when a wait of this connection last let the loop go on
        # Who waits on the socket. Written by the thread of that loop.
        self._waiting: Watch | None = None

    async def _wait_by_psycopg(self, gen: PQGen[Any], *args: Any, **kwargs: Any) -> Any:
        """Run the generator as psycopg's asynchronous connection does, with a time limit."""
        raise NotImplementedError

    async def _cancel_on_server(self) -> None:
        """Have the server cancel the running statement. Waits for the server's answer."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Close the connection whatever it is doing, without waiting."""
        raise NotImplementedError

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to be closed or broken."""
        return bool(self.pgconn.status == BAD)

    def set_autocommit(self, value: bool) -> None:
        """Set the autocommit mode. Django sets it at every lease, nearly always to what it is."""
        if value != self._autocommit or self.pgconn.transaction_status != IDLE:
            self._at_once(super().set_autocommit, value)

    def set_isolation_level(self, value: psycopg.IsolationLevel | None) -> None:
        """Set the isolation level of the transactions to come."""
        self._at_once(super().set_isolation_level, value)

    def _at_once(self, setter: Callable[[V], None], value: V) -> None:
        """Set a mode that is not sent to the server, without letting the loop go on.

        A cancellation in between would leave Django and the connection with different modes, and
        the next statement would write in a transaction that nobody commits.
        """
        yielded, self._yielded = self._yielded, math.inf
        try:
            setter(value)
        finally:
            self._yielded = yielded

    def wait(self, gen: PQGen[Any], *args: Any, **kwargs: Any) -> Any:
        """Run psycopg's generator to its end: on the loop inside the bridge, else by blocking.

        Nearly every statement is sent at once and then waits for its answer. That case is handled
        here, with one switch for each wait.
        """
        if not in_bridge():
            return super().wait(gen, *args, **kwargs)
        if args or kwargs:
            return wait(self._wait_by_psycopg(gen, *args, **kwargs))
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
            # Closed between the answer and this line. The generator has a pointer to freed memory:
            # test_postgresql.py, test_closing_between_the_answer_and_its_reading.
            raise psycopg.OperationalError(CLOSED)
        self._yielded = monotonic()

    def _let_the_loop_go_on(self) -> None:
        """Let the loop go on: many short steps without a wait, as in COPY, would block it."""
        try:
            wait(asyncio.sleep(0))
        except asyncio.CancelledError as error:
            if put_off(error) is None:
                raise
        self._yielded = monotonic()

    async def drive(self, gen: PQGen[Any], wanted: Wait | None = None) -> Any:
        """Run a psycopg generator to its end on the loop. Pass `wanted` if it has begun."""
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

        With a deadline (time.monotonic()), ignore cancellations until then, and raise TimeoutError
        at that time.
        """
        watch = Watch(asyncio.get_running_loop(), self.pgconn.socket)
        timer = None
        if deadline is not None:
            timer = watch.loop.call_later(max(0.0, deadline - monotonic()), watch.wake)
        watch.add(wanted)
        self._waiting = watch
        try:
            # The loop goes on watching between two cancellations: if the task is cancelled in each
            # of the loop's turns, it might otherwise never see the answer.
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

    async def _cancelled(self, gen: PQGen[Any], wanted: Wait, error: asyncio.CancelledError) -> Any:
        """Go on after a cancellation during a wait.

        In a shielded task the statement goes on until the shield's deadline. Elsewhere it is
        cancelled on the server, and the cancellation is raised after the answer has been read.
        """
        shield = put_off(error)
        if shield is not None:
            return await self._drain(gen, wanted, shield.deadline)
        if self.pgconn.transaction_status == ACTIVE:
            deadline = monotonic() + LIMIT
            try:
                await await_within(self._cancel_on_server(), LIMIT)
            except TimeoutError:
                self._finish()  # the request must not hit another statement
                raise error from None
            except asyncio.CancelledError:
                pass
            with contextlib.suppress(psycopg.Error):  # as expected
                await self._drain(gen, wanted, deadline)
            if self.pgconn.transaction_status == ACTIVE:
                self._finish()
        raise error

    async def _drain(self, gen: PQGen[Any], wanted: Wait, deadline: float) -> Any:
        """Run the generator to its end, however often the task is cancelled.

        Closes the connection at the deadline, and raises OperationalError.
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

    def _while_open(self, gen: PQGen[Any]) -> PQGen[Any]:
        """Wrap a generator so that it is not advanced after the connection was closed under it."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if self.is_lost:
                    raise psycopg.OperationalError(CLOSED)
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value

    def _wake(self) -> None:
        """Have the loop stop watching the socket, and tell its waiter."""
        watch, self._waiting = self._waiting, None
        if watch is None or watch.loop.is_closed():
            return
        watch.remove()
        if watch.waiter is not None and not watch.waiter.done():
            watch.waiter.set_exception(psycopg.OperationalError(CLOSED))
