"""ASGI requests: `ASGIHandler.__call__` and `handle`, one request in one greenlet.

The parts are Django's: reading the body, building the request, sending the response, listening for
the client's disconnect. Only where they run is new: the signals, the middleware chain, the view and
the closing of the response share one task and one greenlet. A client that disconnects cancels the
request, and with it the statement that the request waits for.

The body of a request to an ASGI application of the URLconf is left for the application to read.
Websockets and the lifespan protocol have modules of their own.

(ASGI 3.0, "HTTP"; Django documentation, "Asynchronous support".)
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import IO, cast

from asgiref.sync import ThreadSensitiveContext
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.urls import set_script_prefix

from django_aio.bridge import run, wait
from django_aio.core.handlers.base import is_bridged
from django_aio.core.handlers.contexts import called_in
from django_aio.db.handler import begin_request
from django_aio.protocols import lifespan, websocket
from django_aio.protocols.ending import UntilDisconnect, finish, or_abort, until_thread_is_idle
from django_aio.protocols.messages import Feed, Receive, Scope, Send, Upload
from django_aio.protocols.routes import leads_to_application, may_lead_to_application


def call(upstream: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """`ASGIHandler.__call__`: accept websockets and the lifespan protocol as well as HTTP."""

    @functools.wraps(upstream)
    async def __call__(self: ASGIHandler, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan.live(self, scope, receive, send)
            return
        begin_request()
        context = contextvars.copy_context()
        receive, send = called_in(context, receive), called_in(context, send)
        if scope["type"] == "websocket" and is_bridged(self):
            async with ThreadSensitiveContext():
                await websocket.handle(self, scope, receive, send)
        else:
            await upstream(self, scope, receive, send)

    return __call__


def handle(upstream: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """`ASGIHandler.handle`: one HTTP request, in one greenlet."""

    @functools.wraps(upstream)
    async def handle(self: ASGIHandler, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_bridged(self):
            await upstream(self, scope, receive, send)
        elif may_lead_to_application() and await run(leads_to_application, self, scope):
            feed = Feed(receive, "http")
            upload = Upload(feed, self.read_body)
            try:
                await _answer(self, scope, cast("IO[bytes]", upload), feed.pump, send)
            finally:
                upload.discard()
        else:
            try:
                body = await self.read_body(receive)
            except RequestAborted:
                return
            with closing(body):
                listen = functools.partial(self.listen_for_disconnect, receive)
                await _answer(self, scope, body, listen, send)

    return handle


async def _answer(
    handler: ASGIHandler,
    scope: Scope,
    body: IO[bytes],
    listen: Callable[[], Awaitable[None]],
    send: Send,
) -> None:
    """Answer one request, unless its client disconnects first."""
    async with UntilDisconnect(listen) as guard:
        await run(_serve, handler, scope, body, or_abort(send), guard)


def _serve(
    handler: ASGIHandler, scope: Scope, body: IO[bytes], send: Send, guard: UntilDisconnect
) -> None:
    """Answer one request. However it ends, `request_finished` is sent once."""
    sender = type(handler)
    request = response = None
    set_script_prefix(get_script_prefix(scope))
    try:
        signals.request_started.send(sender=sender, scope=scope)
        request, response = handler.create_request(scope, body)
        if request is not None:
            response = wait(handler.run_get_response(request))
        wait(handler.send_response(response, send))
        guard.stop()
    except asyncio.CancelledError:
        wait(until_thread_is_idle())
        raise
    finally:
        finish(sender, request, response)
