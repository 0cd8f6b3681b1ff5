"""Blocking work in a thread, without a question to the policy.

Such work runs in a thread of the loop's default executor: files, names of hosts, clients that
cannot wait on a loop. The thread is a guest of the task that waits for it (`django_aio.db.guests`):
it uses the database on the caller's connection, in the caller's transaction, and leaves no
connection behind. A thread cannot be interrupted, and until it is done no one else may use what it
uses, so a cancelled caller waits for its end.

There are two other ways to a thread. `policy.in_thread()` runs a user's code in the thread of the
request, and logs that; a driver without an async form makes its own calls (`db.backends.threaded`),
which are not a guest's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from django_aio.bridge import in_bridge, wait
from django_aio.policy.parts import unbound

T = TypeVar("T")


async def in_any_thread(
    func: Callable[..., T], *args: Any, unused: Callable[[T], object] | None = None, **kwargs: Any
) -> T:
    """Call `func` in a thread of the loop's executor, as a guest, in the caller's context.

    Returns what `func` returns and raises what it raises. A cancellation is raised when the thread
    is done; `unused()` then gets the result. Any coroutine may call it.
    """
    return await to_its_end(sync_to_async(func, thread_sensitive=False)(*args, **kwargs), unused)


def call_in_thread(func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """`in_any_thread()` for synchronous code inside the bridge: wait for the thread there."""
    result: T = wait(in_any_thread(func, *args, **kwargs))
    return result


def in_thread_from_bridge(upstream: Callable[..., Any] | classmethod[Any, Any, Any]) -> Any:
    """Return a function, method or class method that runs in a thread if called inside the bridge.

    Outside the bridge it is called directly. Same arguments, result and errors.
    """
    if isinstance(upstream, classmethod):
        return classmethod(in_thread_from_bridge(unbound(upstream)))

    @functools.wraps(upstream)
    def call(*args: Any, **kwargs: Any) -> Any:
        if in_bridge():
            return call_in_thread(upstream, *args, **kwargs)
        return upstream(*args, **kwargs)

    return call


async def to_its_end(
    work: Coroutine[Any, Any, T], unused: Callable[[T], object] | None = None
) -> T:
    """Await the work of a thread to its end, even if the caller is cancelled meanwhile.

    Returns what `work` returns and raises what it raises. A cancellation is raised after the end of
    the work, and `unused()` gets the result, which nobody else will.
    """
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([doing])
        # Retrieve an exception, so that asyncio does not report it as never retrieved.
        if not doing.cancelled() and doing.exception() is None and unused is not None:
            unused(doing.result())
        raise
