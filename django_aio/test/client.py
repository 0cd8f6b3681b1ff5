"""`AsyncClient`: each request has a thread of its own for synchronous code, as with a server.

In stock Django all share one thread. A view that waits in it for a lock or for a connection then
blocks the request that has the lock and needs the thread to go on. Also, requests that a test makes
in tasks share no database session with the test or with each other, unless the test is in a
transaction.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from asgiref.sync import ThreadSensitiveContext

from django_aio.db.handler import begin_request
from django_aio.protocols.ending import until_thread_is_idle

if TYPE_CHECKING:
    from django.test.client import AsyncClientHandler


def call(upstream: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`AsyncClientHandler.__call__`: as `ASGIHandler.__call__`."""

    @functools.wraps(upstream)
    async def __call__(self: AsyncClientHandler, scope: dict[str, Any]) -> Any:
        begin_request()
        async with ThreadSensitiveContext():
            try:
                return await upstream(self, scope)
            except asyncio.CancelledError:
                await until_thread_is_idle()
                raise

    return __call__
