"""Error handlers (`handler404` and the like) run where the policy says.

Django's `response_for_exception()` does everything; it is called inside the bridge, for coroutine
middleware too. The handler that it looks up runs in a thread unless the policy trusts it on the
loop, and may be a coroutine function. (Django documentation, "Customizing error views".)

Called per request by the thread that answers it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.urls import URLResolver

from django_aio.core.handlers.base import adapt_view


def get_resolver(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`get_resolver` where error responses are made: its error handlers may be called anywhere."""

    @functools.wraps(upstream)
    def get_resolver(urlconf: object = None) -> _ErrorHandlers:
        return _ErrorHandlers(upstream(urlconf))

    return get_resolver


class _ErrorHandlers:
    """A resolver whose error handlers can be called from anywhere. Used for one response."""

    def __init__(self, resolver: URLResolver) -> None:
        self._resolver = resolver

    def resolve_error_handler(self, view_type: int) -> Callable[..., Any]:
        """Return the handler for a status code, as a synchronous function."""
        return adapt_view(self._resolver.resolve_error_handler(view_type), "error handler")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolver, name)
