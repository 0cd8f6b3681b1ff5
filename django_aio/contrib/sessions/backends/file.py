"""The file engine: its files are read and written in a thread.

Inside the bridge each of its operations is one hand-over to a thread of the loop's executor, with
all that it does in the file system; called from a coroutine, its `a`-prefixed methods too, which
block the loop in stock Django. A thread cannot be interrupted: a cancelled task waits until a file
that it writes is whole. (Django documentation, "Using file-based sessions".)
"""

from __future__ import annotations

import functools
from typing import Any

from django_aio.bridge import in_bridge
from django_aio.parts import unbound
from django_aio.utils.asyncio import hop


def in_thread(upstream: Any) -> Any:
    """A method or class method of the engine: in a thread, if called inside the bridge."""
    if isinstance(upstream, classmethod):
        return classmethod(in_thread(unbound(upstream)))

    @functools.wraps(upstream)
    def call(*args: Any, **kwargs: Any) -> Any:
        if in_bridge():
            return hop(upstream, *args, **kwargs)
        return upstream(*args, **kwargs)

    return call
