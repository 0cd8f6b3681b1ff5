"""django-silk: what it collects of a request is the request's, and not the thread's.

It collects the SQL, the profiles and the request itself in a `threading.local` until the response
is there. The requests of a loop share a thread; and a middleware that runs in a thread of its own
would see nothing of the coroutine view below it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

# What is collected in this context, and by the tasks and threads that it starts.
_collected: ContextVar[dict[str, Any] | None] = ContextVar("django_aio_silk", default=None)


class Local:
    """The attributes of the request that this context is of, in the place of a `threading.local`.

    Asked for by any task or thread.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self._attributes()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self._attributes()[name] = value

    def _attributes(self) -> dict[str, Any]:
        found = _collected.get()
        if found is None:
            _collected.set(found := {})
        return found


def local(upstream: type) -> type[Local]:
    """`silk.collector.local`: what the one `DataCollector` of the process is made with."""
    return Local


def clear(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`DataCollector.clear`: a request begins, with nothing of the one that has started it."""

    @functools.wraps(upstream)
    def clear(self: object) -> None:
        _collected.set({})
        upstream(self)

    return clear
