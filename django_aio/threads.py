"""The way from the loop to a thread, for work that blocks and that nobody has to be asked about.

Such work runs in a thread of the loop's default executor: files, names of hosts, clients that
cannot wait on a loop. The thread is a guest of the task that waits for it (`django_aio.db.guests`):
what it does in the database it does on the caller's connection, in the caller's transaction, and it
leaves no connection behind. A thread cannot be interrupted, and until it is done nobody else may
use what it uses, so a cancelled caller waits for its end.

Two other ways lead to a thread. `policy.in_thread()` sends a user's code to the thread that the
request has, and says so in the log; a driver without a native form makes its own calls
(`db.backends.threaded`), which are not a guest's.
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
    """A function, method or class method that goes to a thread if it is called inside the bridge.

    Anywhere else it is called directly. Same arguments, result and errors.
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
    """Await what a thread does, to its end even if the caller is cancelled meanwhile.

    Returns what `work` returns and raises what it raises. The cancellation is raised when it is
    over, and `unused()` gets the result that nobody will.
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
