"""django-silk: the data that it collects belongs to a request, and not to a thread.

django-silk collects the SQL, the profiles and the request itself in a `threading.local` until the
response is ready. But all requests of an event loop share one thread, and middleware that runs in
another thread would see nothing of the coroutine view below it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

# The data collected in this context, and by the tasks and threads that it starts.
_collected: ContextVar[dict[str, Any] | None] = ContextVar("django_aio_silk", default=None)


class Local:
    """Stand-in for a `threading.local`: its attributes belong to the request of this context.

    Any task or thread may use it.
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
    """`silk.collector.local`: return the class that holds the data of silk's `DataCollector`."""
    return Local


def clear(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`DataCollector.clear`: a request begins without the data of the context that started it."""

    @functools.wraps(upstream)
    def clear(self: object) -> None:
        _collected.set({})
        upstream(self)

    return clear
