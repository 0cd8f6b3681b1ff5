"""django-debug-toolbar: its SQL panel shows what the tasks of a request ask, too (R11).

It looks at the statements of a request by a `cursor()` of its own on each connection object that
the request has when it begins. A task has another.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import in_bridge
from django_aio.db import observers
from django_aio.db.backends.utils import CursorOpener


@functools.cache
def wrap_cursor(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`wrap_cursor()`, one for both modules: it wraps the connections of tasks too."""

    @functools.wraps(upstream)
    def wrap_cursor(connection: BaseDatabaseWrapper) -> None:
        wrapped = hasattr(connection, "_djdt_cursor")
        upstream(connection)
        if not wrapped and hasattr(connection, "_djdt_cursor"):
            for name in ("cursor", "chunked_cursor"):
                setattr(connection, name, _opened_later(getattr(connection, name)))
        observers.begin(connection, follow=functools.partial(_follow, wrap_cursor, connection))

    return wrap_cursor


def _opened_later(open: Callable[..., Any]) -> Callable[..., Any]:
    """The toolbar's `cursor()`, which a coroutine calls for what `async with` opens."""

    @functools.wraps(open)
    def cursor(*args: Any, **kwargs: Any) -> Any:
        if asyncio._get_running_loop() is None or in_bridge():
            return open(*args, **kwargs)
        return CursorOpener(lambda caller: open(*args, **kwargs), "")

    return cursor


def _follow(
    wrap_cursor: Callable[[Any], None], parent: BaseDatabaseWrapper, connection: BaseDatabaseWrapper
) -> None:
    """The connection of a task logs where that of its parent does, if it does."""
    logger = vars(parent).get("_djdt_logger")
    if logger is not None:
        wrap_cursor(connection)
        connection._djdt_logger = logger  # type: ignore[attr-defined]
