"""`WebSocket`: the connection that the view of a websocket route gets.

    async def echo(socket):
        await socket.accept()
        async for message in socket:
            await socket.send(message)

A view that returns closes the connection. A view that returns a response, or raises Http404 or
PermissionDenied, before it has accepted the connection refuses it, so that Django's decorators
work. When the client leaves, a view that waits in `receive()` gets WebSocketDisconnect, an
`async for` over the socket ends, and a view that waits for anything else is cancelled.

Used by the tasks of one websocket: one of them may receive while another sends.
(ASGI 3.0, "WebSocket"; RFC 6455.)
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, HttpResponseBase

from django_aio.protocols.exchange import Application
from django_aio.protocols.messages import Receive, Scope, Send

__all__ = ["WebSocket", "WebSocketDisconnect"]


class WebSocketDisconnect(ConnectionError):  # noqa: N818  # an event, as RequestAborted is
    """The client has gone. `code` and `reason` are the client's, or 1006 and empty."""

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"The client of this websocket has disconnected ({code} {reason!r}).")
        self.code = code
        self.reason = reason


class WebSocket:
    """One connection. See the module.

    `request` is the handshake's request, and its attributes are the socket's as well: `user`,
    `session`, `headers`, `GET`, `COOKIES`, `auser()`, `resolver_match`. The user and the session
    are loaded. Changes to the session before `accept()` are saved; after it call `asave()`.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.request: HttpRequest = scope["django.request"]
        self.accepted = False
        self.closed = False
        self._gone: WebSocketDisconnect | None = None
        self._receive = receive
        self._send = send

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers (RFC 6455, section 1.9)."""
        return list(self.scope.get("subprotocols") or ())

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Accept the connection, with one of the `subprotocols` and headers of your own.

        Returns when it is open. Raises RuntimeError if it is already open, or was closed.
        """
        if self.accepted or self.closed:
            raise RuntimeError("This websocket was accepted or closed before. Accept it once.")
        self.accepted = True
        encoded = [(k.lower().encode("ascii"), v.encode("latin-1")) for k, v in headers]
        await self._send(
            {"type": "websocket.accept", "subprotocol": subprotocol, "headers": encoded}
        )

    async def receive(self) -> str | bytes:
        """Wait for a message of the client: a string, or bytes if it was binary.

        Raises WebSocketDisconnect when the client has gone, RuntimeError before `accept()`.
        """
        self._check_open("receive")
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                # Both are optional in the specification.
                code, reason = message.get("code") or 1005, message.get("reason") or ""
                self._gone = WebSocketDisconnect(code, reason)
                raise self._gone
            if message["type"] == "websocket.receive":
                text: str | None = message.get("text")
                return bytes(message["bytes"]) if text is None else text

    async def receive_json(self) -> Any:
        """Wait for a message and decode it. Raises ValueError if it is not JSON."""
        return json.loads(await self.receive())

    async def send(self, data: str | bytes) -> None:
        """Send a message: text, or binary if `data` is bytes.

        Returns when the server has taken it, so a slow client holds the view back. Raises
        WebSocketDisconnect when the client has gone, or the server has closed the connection, and
        RuntimeError before `accept()`.
        """
        self._check_open("send")
        if self._gone is not None:
            raise WebSocketDisconnect(self._gone.code, self._gone.reason)
        kind = "text" if isinstance(data, str) else "bytes"
        try:
            await self._send({"type": "websocket.send", kind: data})
        except OSError as error:
            raise WebSocketDisconnect() from error

    async def send_json(self, data: object) -> None:
        """Send `data` as JSON, encoded as by `JsonResponse`."""
        await self.send(json.dumps(data, cls=DjangoJSONEncoder))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, or refuse it before `accept()`. Does nothing the second time."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError):  # the client was faster
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except WebSocketDisconnect:
            raise StopAsyncIteration from None

    def _check_open(self, what: str) -> None:
        if not self.accepted:
            raise RuntimeError(f"Call 'await socket.accept()' before '{what}()'.")
        if self.closed:
            raise RuntimeError(f"The view has closed this websocket; it cannot {what} any more.")


def as_application(view: Callable[..., Awaitable[Any]]) -> Application:
    """Return the ASGI application that calls a view, as `websocket()` describes."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        route = scope["url_route"]
        response = await view(socket, *route["args"], **route["kwargs"])
        if socket.accepted or socket.closed:
            return
        if isinstance(response, HttpResponseBase):
            await send({"type": "django.response", "response": response})
        else:
            await socket.close()

    return application
