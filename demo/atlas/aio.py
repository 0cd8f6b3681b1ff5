"""What the views use of django-aio, and what takes its place when STOCK=1 leaves it out.

A site that does not want to compare the two has no such module: it imports `run` from django_aio,
`transaction` from django.db, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction

__all__ = ["atomic", "run"]

T = TypeVar("T")

if settings.STOCK:

    async def run(func: Callable[..., T], /, *args: Any) -> T:
        """Stock Django's way to call synchronous code from a coroutine: in a thread."""
        return await sync_to_async(func)(*args)

    def atomic() -> AbstractAsyncContextManager[Any]:
        """Stock Django cannot open a transaction in a coroutine: do without."""
        return nullcontext()

else:
    from django_aio import run

    atomic = transaction.atomic
