"""The lock of a psycopg connection, which a task may hold while it waits."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from django_aio.bridge import in_bridge, wait


class ConnectionLock:
    """psycopg's lock of a connection, which psycopg holds while it waits.

    A `threading.Lock` held across a wait would stop the loop as soon as a second task asked for it.
    This one waits on the loop inside the bridge, and blocks outside. Any thread. Guarded by
    `tests/db/backends/test_postgresql.py`.
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

    def acquire_now(self) -> bool:
        """Take the lock unless somebody has it. Returns whether it was taken."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        """Release the lock, and wake a task that waits for it."""
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
            # Join the queue before the second try: a release in between wakes this waiter.
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
