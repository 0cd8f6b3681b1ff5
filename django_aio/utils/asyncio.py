"""Inside the bridge synchronous code is where it may wait: Django does not object.

Django's `async_unsafe` guard asks whether a loop runs in this thread. Inside the bridge one does,
but a driver's wait lets it go on, so the guard is told that there is none. Everywhere else it
protects as before.

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
