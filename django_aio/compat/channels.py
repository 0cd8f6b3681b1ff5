"""Channels: a websocket that waits for its next message holds no connection.

A consumer is one task for as long as its socket is open. Channels closes old connections before a
message is handled, and its synchronous consumers do so afterwards too; here all do. (Channels
documentation, "Database Access".)
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.db import close_old_connections

from django_aio.bridge import run


def dispatch(upstream: Callable[[Any, Any], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """`AsyncConsumer.dispatch`: then what is obsolete, as CONN_MAX_AGE says, is closed."""

    @functools.wraps(upstream)
    async def dispatch(self: object, message: Mapping[str, Any]) -> None:
        try:
            await upstream(self, message)
        finally:
            await run(close_old_connections)

    return dispatch
