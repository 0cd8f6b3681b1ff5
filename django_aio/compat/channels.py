"""Channels: a websocket that waits for its next message holds no connection.

A consumer is one task as long as its socket is open. Channels closes old connections before it
handles a message, and in synchronous consumers afterwards too. The patch closes them afterwards in
all consumers. (Channels
documentation, "Database Access".)
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.db import close_old_connections

from django_aio.bridge import run


def dispatch(upstream: Callable[[Any, Any], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """`AsyncConsumer.dispatch`: close connections that are too old (CONN_MAX_AGE) afterwards."""

    @functools.wraps(upstream)
    async def dispatch(self: object, message: Mapping[str, Any]) -> None:
        try:
            await upstream(self, message)
        finally:
            await run(close_old_connections)

    return dispatch
