"""Escaping of plain strings without looking for lazy ones.

`escape()` and `mark_safe()` take lazy translations as well, and look through their arguments for
one at every call: thousands of times for one page of the admin. A `str` is not lazy.

What they return and raise is unchanged. Called from any thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.utils.safestring import SafeString

PLAIN = frozenset({str, SafeString})


def plainly(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one text that is `keep_lazy()`: plain text goes to what that decorates."""
    direct: Callable[[Any], Any] = upstream.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(upstream)
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and type(args[0]) in PLAIN and not kwargs:
            return direct(args[0])
        return upstream(*args, **kwargs)

    return call
