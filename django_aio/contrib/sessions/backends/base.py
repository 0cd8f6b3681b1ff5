"""Session engines: those of third parties use threads, and a request's tasks load a session once.

A session is loaded when it is first used, as in stock Django: a session cookie alone costs nothing.
Django's engines run on the loop. Engines that the policy does not trust do their input and output
in a thread if bridged code made the session, as `SessionMiddleware` does.

A session belongs to one request. This module only sees to it that the tasks and threads of the
request load the session once. (Django documentation, "How to use sessions".)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_aio.bridge import in_bridge
from django_aio.policy.classes import class_in_thread

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

# The methods that reach the store. They call whatever else an engine overrides.
ENTRIES = (
    "load",
    "save",
    "create",
    "delete",
    "exists",
    "flush",
    "cycle_key",
    "clear_expired",
)

# The attribute in which a session keeps the lock of the tasks that load it.
LOCK = "_aio_loading"


def _new(cls: type, /, *args: Any, **kwargs: Any) -> Any:
    """`SessionBase.__new__`: in the bridge, a session of an engine that may block uses threads."""
    return object.__new__(class_in_thread(cls, "session engine", ENTRIES) if in_bridge() else cls)


new = staticmethod(_new)


def aget_session(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`SessionBase._aget_session`: load the session once for tasks that need it at the same time.

    Otherwise the last task to load it would discard what the others have written meanwhile.
    """

    @functools.wraps(upstream)
    async def _aget_session(self: SessionBase, no_load: bool = False) -> Any:
        if no_load or self.session_key is None or hasattr(self, "_session_cache"):
            return await upstream(self, no_load)
        # No await between the look and the setting: the session's tasks are of one loop.
        lock = self.__dict__.setdefault(LOCK, asyncio.Lock())
        try:
            async with lock:
                return await upstream(self, no_load)
        finally:
            if hasattr(self, "_session_cache"):  # else the next task tries, still one at a time
                self.__dict__.pop(LOCK, None)

    return _aget_session
