"""Session engines: a third party's hops, and tasks of one request load a session once.

A session is loaded when it is first used, as in stock Django: a session cookie alone costs nothing.
Django's engines run on the loop. Those that the policy does not trust do their input and output in
a thread, if bridged code made the session: that is what `SessionMiddleware` does.

A session belongs to one request, whose tasks and threads take turns as far as this module sees to
it: they load it once. (Django documentation, "How to use sessions".)
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

# What reaches the store. Whatever else an engine overrides is called from these.
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

# Where a session keeps the lock of those that load it.
LOCK = "_aio_loading"


def _new(cls: type, /, *args: Any, **kwargs: Any) -> Any:
    """`SessionBase.__new__`: in the bridge, a session of an engine that may block uses threads."""
    return object.__new__(class_in_thread(cls, "session engine", ENTRIES) if in_bridge() else cls)


new = staticmethod(_new)


def aget_session(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`SessionBase._aget_session`: tasks that need the session at the same time load it once.

    Else the last one to have loaded it would throw away what the others have written meanwhile.
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
            if hasattr(self, "_session_cache"):  # else the next one tries, one at a time still
                self.__dict__.pop(LOCK, None)

    return _aget_session
