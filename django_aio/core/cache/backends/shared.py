"""One Redis connection for all tasks of a loop.

A task that wants one answer does not need a connection of its own: the commands of all tasks are
sent as they come, whatever has gathered in one write, and Redis answers in their order (Redis
documentation, "Pipelining"). So thousands of tasks need one connection, and under load one system
call serves many of them.

- A cancelled task takes its command back if it has not been sent, else its answer is dropped.
  Nobody else notices.
- What fails, fails for those who wait for an answer at that moment, with redis-py's exceptions. The
  next command connects again. Only the retry policy of the settings sends anything twice.
- `socket_timeout` bounds the wait for each answer (which may get half of it if another came before
  in the same batch), `socket_connect_timeout` that for a connection.

The task that sends and reads lives while somebody waits, so an idle loop has none.
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

# So many commands at most are sent before the first answer is read.
MOST_COMMANDS = 512


class Question(NamedTuple):
    """A command as Redis reads it, and who waits for the answer."""

    command: Sequence[bytes]
    answer: asyncio.Future[Any]

    def give(self, answer: object) -> None:
        """Give the answer, or raise the exception that it is, unless nobody waits any more."""
        if self.answer.done():
            return
        if isinstance(answer, BaseException):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class SharedConnection:
    """Has a connection of redis.asyncio to itself. Touched by the thread of one loop only."""

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

        Raises redis-py's ResponseError for an error that Redis answers, DataError for what cannot
        be sent, ConnectionError and TimeoutError when no answer comes.
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
            # In nobody's chain and nobody's transaction: it serves all of them.
            self._talking = loop.create_task(self._talk(), context=contextvars.Context())
        return question.answer

    async def _talk(self) -> None:
        """Send what has gathered and read the answers, until nobody waits."""
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
            # Only if the loop ends now, and with it everybody who waits.
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
        """An answer has come: the next one has its own time. Half of it is left at the least."""
        until, now = limit.when(), asyncio.get_running_loop().time()
        if until is not None and self._timeout is not None and until - now < self._timeout / 2:
            limit.reschedule(now + self._timeout)

    async def _read(self) -> Any:
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except exceptions.ResponseError as error:
            return error

    async def _is_stale(self) -> bool:
        """Whether the server has closed the connection, or sent what nobody asked for."""
        try:
            stale: bool = await self._can_read()
        except (exceptions.RedisError, OSError):
            stale = True
        if stale:
            await self._connection.disconnect(nowait=True)
        return stale

    async def _connect(self) -> None:
        # redis-py's own limit holds for the greeting; after that there is one for a whole batch.
        self._connection.socket_timeout = self._timeout
        try:
            await self._connection.connect()
        finally:
            self._connection.socket_timeout = None

    async def aclose(self) -> None:
        """Close the connection. It opens again if a command comes."""
        if self._talking is not None and not self._talking.done():
            self._talking.cancel()
            await asyncio.wait([self._talking])
        await self._connection.disconnect()


async def _already_failed(error: Exception) -> None:
    """What the retry policy calls between two attempts: there is nothing left to undo."""
