"""An iterator that may block, advanced in the request's thread, a bounded number of chunks ahead.

A call in the thread for every chunk would cost more than most chunks do; sending only full batches
would delay the last line before a pause. So one call in the thread produces a batch, each chunk is
sent as soon as it is there, and the next batch begins when all of the last one has been sent.

    the request's task      lends its thread to the iterator, and waits for it: the iterator may
                            use the task's connections
    a second task           sends, and has no connection
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self

from asgiref.sync import sync_to_async

# How far the thread gets ahead of the client: this many chunks, or this many bytes and one chunk.
MOST_CHUNKS = 64
MOST_BYTES = 2**16
_OVER = object()


class Ahead:
    """The chunks of `iterator`, as an asynchronous iterator for one reading task.

    `close` is called in the thread, with the last batch if there is one. The thread appends to
    `_chunks`, and writes `_over` and `_failure` before its call ends; all else belongs to the loop.
    """

    def __init__(self, iterator: Iterator[Any], close: Callable[[], None]) -> None:
        self._iterator = iterator
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[Any] = deque()
        self._arrived = asyncio.Event()  # something came after the reader last looked
        self._wanted = asyncio.Event()  # the reader found nothing
        self._over = False
        self._failure: Exception | None = None
        self._stopped = False  # nobody reads any more

    async def send(self, sending: Coroutine[Any, Any, None]) -> None:
        """Run `sending`, which reads the chunks, to its end. Raises what it raises."""
        sender = asyncio.ensure_future(sending)
        sender.add_done_callback(self._stop)
        try:
            await self._fill()
            await sender
        finally:
            self._stop()
            sender.cancel()
            await asyncio.wait([sender])
            if not sender.cancelled():
                sender.exception()  # retrieved: it was raised above, or another error was
            if not self._over:
                # After a batch that a cancelled task left running: it is the same thread.
                await sync_to_async(self._close)()

    def _stop(self, sender: object = None) -> None:
        self._stopped = True
        self._wanted.set()

    async def _fill(self) -> None:
        """Produce batch after batch, each when the one before has been read."""
        produce = sync_to_async(self._produce)
        while not self._over:
            await self._wanted.wait()
            if self._stopped:
                return
            self._wanted.clear()
            if not self._chunks:
                await produce()
                self._arrived.set()

    def _produce(self) -> None:
        """One batch. In the thread."""
        produced = 0
        try:
            for _ in range(MOST_CHUNKS):
                chunk = next(self._iterator, _OVER)
                if chunk is _OVER:
                    break
                self._chunks.append(chunk)
                # Waking the loop is a system call, so avoid needless ones. The thread tests the
                # event after the append and the reader clears it before it looks for chunks: one
                # of the two notices the other.
                if not self._arrived.is_set():
                    self._loop.call_soon_threadsafe(self._arrived.set)
                produced += len(chunk) if isinstance(chunk, (str, bytes)) else 0
                if produced >= MOST_BYTES or self._stopped:
                    return
            else:
                return
        except Exception as error:
            self._failure = error  # raised after the chunks that came before it
        self._over = True
        self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while True:
            self._arrived.clear()
            if self._chunks:
                return self._chunks.popleft()
            if self._failure is not None:
                raise self._failure
            if self._over:
                raise StopAsyncIteration
            self._wanted.set()
            await self._arrived.wait()
