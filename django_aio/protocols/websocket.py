"""Websockets: the handshake is a request of its own, behind the project's middleware.

A handshake is a GET request, and is treated as one: `request_started`, the middleware, the URLconf,
an Origin check, the view (`handshake.py`), the middleware again, `request_finished`. A middleware
that answers itself, such as one that redirects anonymous users to the login page, refuses the
connection; so do a path that is not a websocket route, and any error in Django.

A connection that is refused ends with the response's status if the server offers
`websocket.http.response`, else with 403. An error after the connection was accepted closes it with
1011 and is logged.

(ASGI 3.0, "WebSocket" and its extension "WebSocket Denial Response"; RFC 6455, section 4.)
"""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.urls import set_script_prefix

from django_aio.bridge import run, wait
from django_aio.protocols.ending import UntilDisconnect, finish, or_abort, until_thread_is_idle
from django_aio.protocols.handshake import DENIAL, SocketExchange
from django_aio.protocols.messages import Feed, Receive, Scope, Send
from django_aio.protocols.routes import Sockets, sockets_of


class WebSocketRequest(ASGIRequest):
    """The handshake as a request. `urlconf` is the site's, but its websocket routes resolve."""

    feed: Feed
    exchange: SocketExchange | None = None
    _urlconf: str | Sockets | None = None

    def __init__(self, scope: Scope, body_file: io.BytesIO) -> None:
        super().__init__({**scope, "method": "GET"}, body_file)

    @property
    def urlconf(self) -> Any:
        """The URLconf of the setting, or the one that a middleware set, for websockets."""
        return sockets_of(self._urlconf or settings.ROOT_URLCONF)

    @urlconf.setter
    def urlconf(self, urlconf: str | Sockets | None) -> None:
        self._urlconf = urlconf

    def _get_scheme(self) -> Any:
        """The scheme of the page that connects, for middleware and the Origin check."""
        scheme = super()._get_scheme()  # type: ignore[misc]
        return {"ws": "http", "wss": "https"}.get(scheme, scheme)


async def handle(handler: ASGIHandler, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one websocket until it is closed. Called by `ASGIHandler`."""
    message = await receive()
    if message["type"] != "websocket.connect":
        return  # the client has gone already
    feed = Feed(receive, "websocket")
    feed.preload(message)
    handshake = _Handshake(_for_handshakes(handler), scope, feed)
    async with UntilDisconnect(feed.pump):
        try:
            await run(handshake.perform, or_abort(send))
            if handshake.accepted is not None:
                await handshake.accepted.converse(handshake.response, send)
        finally:
            await handshake.end()
            await until_thread_is_idle()


@functools.lru_cache(maxsize=16)
def _for_handshakes(handler: ASGIHandler) -> Any:
    """Copy the handler, with its middleware, for requests that are handshakes."""
    copied = copy.copy(handler)
    copied.request_class = WebSocketRequest
    return copied


class _Handshake:
    """The request of one handshake. Used by the websocket's task."""

    def __init__(self, handler: ASGIHandler, scope: Scope, feed: Feed) -> None:
        self.handler = handler
        self.scope = scope
        self.feed = feed
        self.request: WebSocketRequest | None = None
        self.response: Any = None

    @property
    def accepted(self) -> SocketExchange | None:
        """The application, if it has accepted and the middleware has left its response."""
        exchange = None if self.request is None else self.request.exchange
        if exchange is None or exchange.accepted is None or self.response is None:
            return None
        return exchange if self.response.status_code == 101 else None

    def perform(self, send: Send) -> None:
        """Run the request, and refuse the connection unless it was accepted. In the bridge."""
        sender = type(self.handler)
        set_script_prefix(get_script_prefix(self.scope))
        try:
            signals.request_started.send(sender=sender, scope=self.scope)
            created: Any = self.handler.create_request(self.scope, io.BytesIO())
            self.request, self.response = created
            if self.request is not None:
                self.request.feed = self.feed
                self.response = wait(self.handler.run_get_response(self.request))
            if self.accepted is None:
                wait(self._refuse(send))
        finally:
            finish(sender, self.request, self.response)

    async def _refuse(self, send: Send) -> None:
        """Send the response if the server offers that, else close."""
        if DENIAL not in (self.scope.get("extensions") or {}):
            await send({"type": "websocket.close"})
            return

        async def deny(message: Mapping[str, Any]) -> None:
            # Django's last message has no body, which uvicorn expects.
            body = {"body": b""} if message["type"] == "http.response.body" else {}
            await send({**body, **message, "type": f"websocket.{message['type']}"})

        await self.handler.send_response(self.response, deny)

    async def end(self) -> None:
        """End the application."""
        if self.request is not None and self.request.exchange is not None:
            await self.request.exchange.aclose()
