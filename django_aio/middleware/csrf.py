"""`settings.CSRF_FAILURE_VIEW` runs where the policy says, and may be a coroutine function.

Called by the thread that rejects a request. (Django documentation, "CSRF_FAILURE_VIEW".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.core.handlers.base import adapt_view

View = Callable[..., Any]


def get_failure_view(upstream: Callable[[], View]) -> Callable[[], View]:
    """`_get_failure_view()`: the view as synchronous code."""

    @functools.wraps(upstream)
    def _get_failure_view() -> View:
        return adapt_view(upstream(), "CSRF failure view")

    return _get_failure_view
