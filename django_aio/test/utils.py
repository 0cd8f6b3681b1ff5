"""`CaptureQueriesContext` and `assertNumQueries()` in asynchronous tests.

Entering one connects, so that the queries of connecting are not counted. A coroutine cannot wait
for that there and connects with its first query; the queries of connecting do not go through
Django's cursors then. (Django documentation, "TransactionTestCase.assertNumQueries".)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_aio.bridge import in_bridge

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.test.utils import CaptureQueriesContext


def enter(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`CaptureQueriesContext.__enter__`: in a coroutine the first query connects."""

    @functools.wraps(upstream)
    def __enter__(self: CaptureQueriesContext) -> Any:
        if asyncio._get_running_loop() is None or in_bridge():
            return upstream(self)
        connection = self.connection
        self.connection = _ToBeOpened(connection)  # type: ignore[assignment]
        try:
            return upstream(self)
        finally:
            self.connection = connection

    return __enter__


class _ToBeOpened:
    """A connection that need not be open yet."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        object.__setattr__(self, "_connection", connection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._connection, name, value)

    def ensure_connection(self) -> None:
        """Do nothing: the first query connects."""
