"""The view behind a websocket route: it runs the application until that accepts or refuses.

The application runs in a task of its own, and so on database connections of its own, which end with
the task. Django's view is over when the application has accepted the connection (the response is a
101), has closed it, or has failed; an exception until then is the view's.

When the client leaves, an application that waits for a message gets the disconnect and has `GRACE`
seconds to end; any other is cancelled. (ASGI 3.0, "WebSocket"; RFC 6455, section 10.2.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseForbidden
from django.middleware.csrf import REASON_BAD_ORIGIN, CsrfViewMiddleware

from django_aio.protocols.ending import or_abort
from django_aio.protocols.exchange import (
    Application,
    ApplicationResponse,
    Exchange,
    application_scope,
)
from django_aio.protocols.messages import Message, Scope, Send

if TYPE_CHECKING:
    from django_aio.protocols.websocket import WebSocketRequest

DENIAL = "websocket.http.response"
# RFC 6455, section 7.4.1.
NORMAL, INTERNAL_ERROR = 1000, 1011


class SocketExchange(Exchange):
    """One run of a websocket application. Used by the tasks of one websocket."""

    protocol = "websocket"

    def __init__(self, application: Application, request: WebSocketRequest, scope: Scope) -> None:
        self.accepted: Message | None = None
        self.closed = False
        self._feed = request.feed
        self._server: Send | None = None
        self._open = asyncio.Event()
        super().__init__(application, request, scope, request.feed)

    async def send(self, message: Mapping[str, Any]) -> None:
        """The `send` of the application. Raises OSError when the connection has gone."""
        if self._server is not None:
            if message["type"] == "websocket.close":
                self.closed = self._feed.finished = True
            await self._send(message)
            return
        await super().send(message)
        if message["type"] == "websocket.accept":
            await self._open.wait()

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._server is not None
        gone: Exception | None = None
        if self._feed.disconnect is None:
            # A server that has closed the connection itself may raise RuntimeError for a message.
            closed = (RuntimeError,) if message["type"] == "websocket.send" else ()
            try:
                await self._server(message)
            except (OSError, *closed) as error:
                gone = error
            else:
                return
        self._feed.told = True
        raise ConnectionResetError("The connection of this websocket has been closed.") from gone

    async def response(self) -> Any:
        """Wait for the application to accept or refuse. Raises what it raises until then."""
        try:
            message = await self.next("")
        except BaseException:
            await self.aclose()
            raise
        if message["type"] == "websocket.accept":
            self.accepted = message
            return HttpResponse(status=101)
        if message["type"] == f"{DENIAL}.start":
            return ApplicationResponse(self.body(), message)
        self.complete = True
        return message.get("response") or HttpResponseForbidden()

    async def converse(self, response: HttpResponseBase, send: Send) -> None:
        """Accept, and let the application talk to the server until it ends."""
        assert self.accepted is not None
        cookies = [
            (b"set-cookie", cookie.OutputString().encode("ascii"))
            for cookie in response.cookies.values()
        ]
        headers = [*(self.accepted.get("headers") or ()), *cookies]
        self._server = send
        try:
            await self._send({**self.accepted, "headers": headers})
            self._open.set()
            await asyncio.wait({self.task})
        finally:
            over = self.closed or self._feed.told or self._feed.disconnect is not None
            code = NORMAL if self.failure is None else INTERNAL_ERROR
            await self.aclose()
        if not over:
            await or_abort(send)({"type": "websocket.close", "code": code})


def handshake_view(application: Application, exempt: bool) -> Callable[..., Any]:
    """Return the view of a route to `application`. With `exempt` the page of any site may connect.

    Otherwise the Origin is checked.
    """

    async def handshake(request: WebSocketRequest, /, *args: Any, **kwargs: Any) -> Any:
        if not exempt:
            _check_origin(request)
        # Load the user now: in the application, a coroutine, the attribute could not query.
        if hasattr(request, "auser"):
            request.user = await request.auser()
        scope = application_scope(request, args, kwargs)
        request.exchange = SocketExchange(application, request, scope)
        return await request.exchange.response()

    return handshake


def _check_origin(request: HttpRequest) -> None:
    """Raise PermissionDenied for a page of another site, by the rules of Django's CSRF middleware.

    Browsers send cookies with a handshake that any site asks for, and always send the Origin of
    that site. Clients that send no Origin are not browsers.
    """
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None:
        return
    middleware: Any = CsrfViewMiddleware(lambda request: HttpResponse())
    if not middleware._origin_verified(request):
        raise PermissionDenied(REASON_BAD_ORIGIN % origin)
