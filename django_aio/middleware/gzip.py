"""`GZipMiddleware`: a large page is compressed in a thread.

(Django documentation, "GZip middleware".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.policy import in_thread

# What takes some 5 ms, in bytes. A hand-over to a thread costs a hundredth of that.
LARGE = 200_000


def compress_string(upstream: Callable[..., bytes]) -> Callable[..., bytes]:
    """`compress_string()`, as the middleware knows it. Inside the bridge or outside."""
    elsewhere = in_thread(upstream)

    @functools.wraps(upstream)
    def compress_string(s: bytes, **options: Any) -> bytes:
        return (elsewhere if len(s) > LARGE else upstream)(s, **options)

    return compress_string
