"""django-debug-toolbar: its SQL panel shows what the tasks of a request ask, too (R11).

It looks at the statements of a request by a `cursor()` of its own on each connection object that
the request has when it begins. A task has another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.db import observers


@functools.cache
def wrap_cursor(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`wrap_cursor()`, one for both modules: it wraps the connections of tasks too."""

    @functools.wraps(upstream)
    def wrap_cursor(connection: Any) -> None:
        upstream(connection)
        observers.begin(connection, follow=functools.partial(_follow, wrap_cursor, connection))

    return wrap_cursor


def _follow(wrap_cursor: Callable[[Any], None], parent: Any, connection: Any) -> None:
    """The connection of a task logs where that of its parent does, if it does."""
    logger = vars(parent).get("_djdt_logger")
    if logger is not None:
        wrap_cursor(connection)
        connection._djdt_logger = logger
