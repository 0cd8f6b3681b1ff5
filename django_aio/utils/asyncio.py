"""Inside the bridge synchronous code is where it may wait: Django does not object.

Django's `async_unsafe` guard asks whether a loop runs in this thread. Inside the bridge one does,
but a driver's wait lets it go on, so the guard is told that there is none. Everywhere else it
protects as before.

Called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from django_aio.bridge import in_bridge, run, wait

T = TypeVar("T")


def get_running_loop() -> AbstractEventLoop:
    """What `django.utils.asyncio` asks: the loop that a blocking call would stop.

    Raises RuntimeError, as asyncio's own, where there is none.
    """
    if in_bridge():
        raise RuntimeError("no event loop is stopped by waiting inside the bridge")
    return asyncio.get_running_loop()


def native(func: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """Stands in for `sync_to_async` in Django's own modules: the same function, on the loop.

    `thread_sensitive` and `executor` say which thread; there is none, so they are ignored.
    """
    if func is None:
        return native
    return functools.partial(run, func)


async def to_its_end(
    work: Coroutine[Any, Any, T], unused: Callable[[T], object] | None = None
) -> T:
    """Await what a thread does, to its end even if the caller is cancelled meanwhile.

    A thread cannot be interrupted, and until it is done nobody else may use what it uses. Returns
    what `work` returns and raises what it raises. The cancellation is raised when it is over, and
    `unused()` gets the result that nobody will.
    """
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([doing])
        # Looked at, so that asyncio does not report an exception that nobody asks for.
        if not doing.cancelled() and doing.exception() is None and unused is not None:
            unused(doing.result())
        raise


def hop(func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call what blocks in a thread of the loop's default executor, from inside the bridge.

    The thread is a guest: what it does in the database it does on the caller's connection, in the
    caller's transaction, and leaves no connection behind. It cannot be interrupted, so a cancelled
    caller waits for its end. Returns what `func` returns and raises what it raises.
    """
    crossing = sync_to_async(func, thread_sensitive=False)
    return wait(to_its_end(crossing(*args, **kwargs)))
