"""django-debug-toolbar: its SQL panel also shows the statements of a request's tasks (R11).

The toolbar records statements by a `cursor()` of its own, which it sets on each connection object
that the request has when it begins. A task has connection objects of its own.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from django_aio.bridge import in_bridge
from django_aio.db import observers
from django_aio.db.backends.utils import CursorOpener
from django_aio.db.types import Wrapper


@functools.cache
def wrap_cursor(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`wrap_cursor()`, one for both modules: wrap the connections of tasks too."""

    @functools.wraps(upstream)
    def wrap_cursor(connection: Wrapper) -> None:
        wrapped = hasattr(connection, "_djdt_cursor")
        upstream(connection)
        if not wrapped and hasattr(connection, "_djdt_cursor"):
            for name in ("cursor", "chunked_cursor"):
                setattr(connection, name, _opened_later(getattr(connection, name)))
        observers.begin(connection, follow=functools.partial(_follow, wrap_cursor, connection))

    return wrap_cursor


def _opened_later(open: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the toolbar's `cursor()`: a coroutine gets an opener, which `async with` enters."""

    @functools.wraps(open)
    def cursor(*args: Any, **kwargs: Any) -> Any:
        if asyncio._get_running_loop() is None or in_bridge():
            return open(*args, **kwargs)
        return CursorOpener(lambda caller: open(*args, **kwargs), "")

    return cursor


def _follow(wrap_cursor: Callable[[Any], None], parent: Wrapper, connection: Wrapper) -> None:
    """Have the connection of a task log where its parent's connection does, if that one logs."""
    logger = vars(parent).get("_djdt_logger")
    if logger is not None:
        wrap_cursor(connection)
        connection._djdt_logger = logger  # type: ignore[union-attr]
