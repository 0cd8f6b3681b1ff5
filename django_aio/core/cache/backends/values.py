"""What is stored in a cache, as far as storing it runs queries."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from django_aio.bridge import in_bridge


def evaluate(*values: Any) -> None:
    """Run the queries of querysets that will be pickled in a thread, here, on the loop.

    In a dictionary too. One that is hidden deeper is evaluated by the thread, a guest.
    """
    if not in_bridge():
        return
    for value in values:
        if isinstance(value, QuerySet):
            len(value)
        elif isinstance(value, dict):
            evaluate(*value.values())
