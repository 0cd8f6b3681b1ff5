"""Django's guard `async_unsafe` does not object to synchronous code inside the bridge.

The guard asks whether a loop runs in this thread. Inside the bridge one does, but a driver's wait
lets the loop go on, so the guard is told that there is no loop. Everywhere else the guard works as
in stock Django.

Called from any thread.
"""

from __future__ import annotations

import asyncio
import functools
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from django_aio.bridge import in_bridge, run


def get_running_loop() -> AbstractEventLoop:
    """Return the loop that a blocking call here would stop, for `django.utils.asyncio`.

    Raises RuntimeError, as asyncio's function does, if there is none.
    """
    if in_bridge():
        raise RuntimeError("no event loop is stopped by waiting inside the bridge")
    return asyncio.get_running_loop()


def native(func: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """Stand in for `sync_to_async` in Django's own modules: run the function on the loop.

    `thread_sensitive` and `executor` choose a thread; there is none, so they are ignored.
    """
    if func is None:
        return native
    return functools.partial(run, func)
