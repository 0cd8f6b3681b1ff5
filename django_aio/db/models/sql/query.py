"""`Query.get_count()`: the same `COUNT(*)` every time.

An expression is never changed by the queries that resolve it. Its identity, which they ask for, is
found out by the signature of its class, and goes with it into every copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Count


def count(upstream: type[Count]) -> Callable[..., Count]:
    """`Count`, for `get_count()` alone. Any thread."""
    everything = upstream("*")
    hash(everything)

    def count(*args: Any, **kwargs: Any) -> Count:
        return everything if args == ("*",) and not kwargs else upstream(*args, **kwargs)

    return count
