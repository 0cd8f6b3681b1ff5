"""psycopg's own pool, on a loop that may end before the pool does.

Guarded by `tests/db/backends/test_pools.py`.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from psycopg_pool import AsyncConnectionPool

from django_aio.db.backends.postgresql.connection import CooperativeConnection, Twin

if TYPE_CHECKING:
    from psycopg_pool.pool_async import MaintenanceTask

    from django_aio.db.types import Actor


class _NotCancelled(logging.Filter):
    """Drop what psycopg_pool logs about an attempt to connect that ended with its loop."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record says anything that an operator should know."""
        task = None if asyncio._get_running_loop() is None else asyncio.current_task()
        return task is None or not task.cancelling()


logging.getLogger("psycopg.pool").addFilter(_NotCancelled())


class LoopPool(AsyncConnectionPool):
    """A pool that ends with its loop, even if the loop cancels the pool's tasks first.

    `asyncio.run()` cancels all tasks and waits for them. A worker of psycopg_pool that is just
    connecting takes the cancellation for a failed attempt and goes on for ever; and a pool whose
    tasks were cancelled cannot be closed. Touched by the thread of its loop.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(open=False, connection_class=Twin, **options)
        self.twins: weakref.WeakSet[Twin] = weakref.WeakSet()
        # Who has a connection, and since when (time.monotonic()).
        self.out: dict[CooperativeConnection, tuple[Actor, float]] = {}

    @classmethod
    async def worker(cls, q: asyncio.Queue[MaintenanceTask]) -> None:
        """Do what the pool asks for in the background, until the loop ends."""
        await super().worker(_UntilCancelled(q))  # type: ignore[arg-type]

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - upstream's
        """Close the pool and every connection that waits in it."""
        try:
            await super().close(timeout)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The pool's tasks were cancelled, not this one: the loop is ending. Close the
            # connections that wait in the pool, and the one that a worker was just making.
            for face in map(CooperativeConnection.over, list(self.twins)):
                if face not in self.out:
                    face.shut()


class _UntilCancelled:
    """A worker's queue that raises CancelledError at once in a worker that was cancelled."""

    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self._queue = queue

    async def get(self) -> Any:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        try:
            return await self._queue.get()
        except RuntimeError:
            if asyncio._get_running_loop() is not None:
                raise
            # The coroutine is garbage of a closed loop, on which the queue cannot cancel its wait.
            raise GeneratorExit from None
