"""One Redis connection for all tasks of a loop.

A task that wants one answer does not need a connection of its own. The commands of all tasks are
sent in the order in which they come, all that are ready in one write, and Redis answers in that
order (Redis documentation, "Pipelining"). So thousands of tasks need one connection, and under load
one system call serves many of them.

- A command whose task is cancelled is not sent; if it has been sent, its answer is dropped. Other
  tasks do not notice.
- A failure is raised, as redis-py's exception, in all tasks that wait for an answer at that moment.
  The next command connects again. Only the retry policy of the settings sends a command twice.
- `socket_timeout` limits the wait for each answer (to as little as half of it after another answer
  of the same batch), `socket_connect_timeout` the wait for a connection.

The task that sends and reads lives only while a task waits for an answer.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis import exceptions
from redis.connection import HiredisRespSerializer
from redis.utils import HIREDIS_AVAILABLE

# The most commands that are sent before the first answer is read.
MOST_COMMANDS = 512


class Question(NamedTuple):
    """A command as Redis reads it, and the future of its answer."""

    command: Sequence[bytes]
    answer: asyncio.Future[Any]

    def give(self, answer: object) -> None:
        """Set the answer, or raise it if it is an exception, unless the task has been cancelled."""
        if self.answer.done():
            return
        if isinstance(answer, BaseException):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class SharedConnection:
    """Owns a connection of redis.asyncio. Touched only by the thread of one loop."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._timeout: float | None = connection.socket_timeout
        self._pack: Callable[..., Sequence[bytes]] = connection.pack_command
        if HIREDIS_AVAILABLE and connection.encoder.encoding == "utf-8":
            self._pack = HiredisRespSerializer().pack
        # redis-py 7 renamed it.
        self._can_read = getattr(connection, "can_read", None) or connection.can_read_destructive
        self._queue: list[Question] = []
        self._talking: asyncio.Task[None] | None = None

    async def ask(self, command: Sequence[Any]) -> Any:
        """Send a command and return the answer.

        Raises redis-py's ResponseError if Redis answers with an error, DataError if an argument
        cannot be sent, ConnectionError or TimeoutError if no answer comes.
        """
        packed = self._pack(*command)
        retry = self._connection.retry
        if not retry.get_retries():
            return await self._enqueue(packed)
        return await retry.call_with_retry(lambda: self._enqueue(packed), _already_failed)

    def _enqueue(self, packed: Sequence[bytes]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        question = Question(packed, loop.create_future())
        self._queue.append(question)
        if self._talking is None or self._talking.done():
            # An empty context: the task serves all chains and is in the transaction of none.
            self._talking = loop.create_task(self._talk(), context=contextvars.Context())
        return question.answer

    async def _talk(self) -> None:
        """Send the queued commands and read their answers, until no task waits."""
        batch: list[Question] = []
        try:
            while self._queue:
                batch, self._queue = self._queue[:MOST_COMMANDS], self._queue[MOST_COMMANDS:]
                batch = [question for question in batch if not question.answer.done()]
                try:
                    await self._exchange(batch)
                except Exception as error:
                    await self._connection.disconnect(nowait=True)
                    for question in batch:
                        question.give(copy.copy(error))
        finally:
            # Some are left only if the loop ends now, and all waiting tasks with it.
            for question in batch + self._queue:
                question.answer.cancel()

    async def _exchange(self, batch: list[Question]) -> None:
        """Send the commands of a batch together and read the answers one by one."""
        if not batch:
            return
        connection = self._connection
        if not connection.is_connected or await self._is_stale():
            await self._connect()
        parts = [part for question in batch for part in question.command]
        try:
            async with asyncio.timeout(self._timeout) as limit:
                await connection.send_packed_command(parts, check_health=False)
                for question in batch:
                    question.give(await self._read())
                    self._extend(limit)
        except TimeoutError:
            raise exceptions.TimeoutError(
                f"Redis did not answer within {self._timeout} s (socket_timeout)."
            ) from None

    def _extend(self, limit: asyncio.Timeout) -> None:
        """Give the next answer the whole timeout again once less than half of it is left."""
        until, now = limit.when(), asyncio.get_running_loop().time()
        if until is not None and self._timeout is not None and until - now < self._timeout / 2:
            limit.reschedule(now + self._timeout)

    async def _read(self) -> Any:
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except exceptions.ResponseError as error:
            return error

    async def _is_stale(self) -> bool:
        """Whether the server has closed the connection, or has sent unrequested data."""
        try:
            stale: bool = await self._can_read()
        except (exceptions.RedisError, OSError):
            stale = True
        if stale:
            await self._connection.disconnect(nowait=True)
        return stale

    async def _connect(self) -> None:
        # redis-py's own timeout applies to the greeting; later `_exchange()` limits each answer.
        self._connection.socket_timeout = self._timeout
        try:
            await self._connection.connect()
        finally:
            self._connection.socket_timeout = None

    async def aclose(self) -> None:
        """Close the connection. The next command opens it again."""
        if self._talking is not None and not self._talking.done():
            self._talking.cancel()
            await asyncio.wait([self._talking])
        await self._connection.disconnect()


async def _already_failed(error: Exception) -> None:
    """Do nothing between two attempts of the retry policy: there is nothing left to undo."""
