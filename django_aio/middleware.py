"""Django's own middleware: `settings.CSRF_FAILURE_VIEW`, and large pages that are compressed.

Called by the thread that serves a request. (Django documentation, "CSRF_FAILURE_VIEW", "GZip
middleware".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.core.handlers.base import adapt_view
from django_aio.policy import in_thread

View = Callable[..., Any]

# In bytes. Compressing such a page takes some 5 ms; a call in a thread costs a hundredth of that.
LARGE = 200_000


def get_failure_view(upstream: Callable[[], View]) -> Callable[[], View]:
    """`_get_failure_view()`: the view runs where the policy says, or is a coroutine function."""

    @functools.wraps(upstream)
    def _get_failure_view() -> View:
        return adapt_view(upstream(), "CSRF failure view")

    return _get_failure_view


def compress_string(upstream: Callable[..., bytes]) -> Callable[..., bytes]:
    """`compress_string()`, as `GZipMiddleware` imported it: compress a large page in a thread."""
    compress_in_thread = in_thread(upstream)

    @functools.wraps(upstream)
    def compress_string(s: bytes, **options: Any) -> bytes:
        return (compress_in_thread if len(s) > LARGE else upstream)(s, **options)

    return compress_string
