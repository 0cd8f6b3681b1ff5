"""The lifespan protocol: the signals `startup` and `shutdown`, and the end of the loop's pools.

Receivers run in a task of their own, so that the connections they use are released when they return
and not held for as long as the server runs. (ASGI 3.0, "Lifespan".)
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from django.core.handlers.asgi import ASGIHandler

from django_aio.core.signals import shutdown, startup
from django_aio.loops import close_store
from django_aio.protocols.messages import Receive, Scope, Send

logger = logging.getLogger("django.server")


async def live(handler: ASGIHandler, scope: Scope, receive: Receive, send: Send) -> None:
    """Follow the server's life: start up once, shut down once. Called by `ASGIHandler`."""
    named = {"sender": type(handler), "scope": scope, "state": scope.get("state", {})}
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            failure = await asyncio.create_task(_start_up(named))
            await send(_answer("startup", failure))
            if failure:
                return
        elif message["type"] == "lifespan.shutdown":
            failure = await asyncio.create_task(_shut_down(named))
            try:
                await close_store()
            except Exception as error:
                logger.exception("The connections of the server could not be closed.")
                failure = failure or _named(error)
            await send(_answer("shutdown", failure))
            return


def _answer(what: str, failure: str) -> dict[str, Any]:
    if failure:
        return {"type": f"lifespan.{what}.failed", "message": failure}
    return {"type": f"lifespan.{what}.complete"}


async def _start_up(named: dict[str, Any]) -> str:
    """Call the receivers. Return what failed, or an empty string."""
    try:
        await startup.asend(**named)
    except Exception as error:
        logger.exception("A receiver of the signal 'startup' failed; the server cannot start.")
        await close_store()
        return _named(error)
    return ""


async def _shut_down(named: dict[str, Any]) -> str:
    """Call all receivers; Django logs their errors. Return what failed, or an empty string."""
    answers = await shutdown.asend_robust(**named)
    return "; ".join(_named(error) for _, error in answers if isinstance(error, Exception))


def _named(error: Exception) -> str:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
