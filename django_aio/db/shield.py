"""Cancellations that are put off until a section that must not be left half done is over.

The end of a transaction must be decided. `shielded()` surrounds it: a cancellation that arrives
meanwhile is remembered, however many there are (anyio's scopes cancel at every `await`), and raised
once when the section is over. The drivers ask `put_off()` where they wait.

The delay is bounded: a server that does not answer within `LIMIT` seconds of the first cancellation
gets no more time. The driver then closes the connection, and the server rolls back what it had not
committed. Guarded by `tests/db/test_faults.py`.

A shield belongs to the context of the task that made it; a task started inside is not shielded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# How long a shielded section may take once its task has been cancelled, in seconds.
LIMIT = 5.0


class Shield:
    """One shielded section. Touched by the task or thread that made it."""

    __slots__ = ("cancelled", "deadline", "task")

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.task = task
        self.cancelled: asyncio.CancelledError | None = None  # the first that was put off
        self.deadline = 0.0  # by time.monotonic(), from the first cancellation on


_shield: ContextVar[Shield | None] = ContextVar("django_aio_shield", default=None)


def _running() -> asyncio.Task[Any] | None:
    return asyncio.current_task() if asyncio._get_running_loop() is not None else None


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Put off the cancellations of this task to the end of the block, which raises the first.

    Does nothing inside another shielded block. A cancellation takes precedence over an Exception
    that the block raises, but not over any other BaseException.
    """
    task = _running()
    outer = _shield.get()
    if outer is not None and outer.task is task:
        yield
        return
    shield = Shield(task)
    token = _shield.set(shield)
    try:
        yield
    except Exception:
        if shield.cancelled is None:
            raise
        raise shield.cancelled from None
    finally:
        _shield.reset(token)
    if shield.cancelled is not None:
        raise shield.cancelled


@contextlib.contextmanager
def unshielded() -> Iterator[None]:
    """Let cancellations through again for a user's code in the middle of a shielded section."""
    token = _shield.set(None)
    try:
        yield
    finally:
        _shield.reset(token)


def put_off(error: asyncio.CancelledError) -> Shield | None:
    """Remember a cancellation if this task is shielded. Returns the shield, or None.

    The deadline of the shield says how long the caller may go on waiting.
    """
    shield = _shield.get()
    if shield is None or shield.task is not _running():
        return None
    if shield.cancelled is None:
        shield.cancelled = error
        shield.deadline = time.monotonic() + LIMIT
    return shield


async def until_done(waited: asyncio.Future[T], deadline: float) -> bool:
    """Wait for a future, however often the task is cancelled, until `deadline` (time.monotonic()).

    Returns whether it is done. The future itself is not cancelled.
    """
    while not waited.done():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([waited], timeout=left)
    return True


async def await_within(work: Awaitable[T], seconds: float = LIMIT) -> T:
    """Await `work` to its end, however often the task is cancelled meanwhile.

    Returns what it returns and raises what it raises, or the cancellation. Raises TimeoutError
    `seconds` after the beginning; the work is cancelled then.
    """
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait([doing], timeout=seconds)
    except asyncio.CancelledError:
        if await until_done(doing, time.monotonic() + seconds) and not doing.cancelled():
            doing.exception()  # looked at, so that asyncio does not report it
        else:
            doing.cancel()
        raise
    if not doing.done():
        doing.cancel()
        raise TimeoutError
    return doing.result()
