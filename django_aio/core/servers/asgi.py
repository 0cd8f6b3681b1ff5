"""uvicorn as the development server: it stops quickly, and logs as Django's server does.

Imported only where uvicorn is used. uvicorn's own messages are shown from warnings upwards.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any
from urllib.parse import quote

import uvicorn
from django.core.servers.basehttp import WSGIRequestHandler
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from django_aio.protocols.exchange import Application
from django_aio.protocols.messages import Receive, Scope, Send

logger = logging.getLogger("django.server")

TLS_HANDSHAKE = b"\x16\x03"

# Seconds. A request that goes on for longer after its client was cut off (synchronous code in a
# thread does not notice) is abandoned, as Django abandons its threads.
STOP_SECONDS = 2.0


class Server(uvicorn.Server):
    """A server that closes its connections when it stops, as streams do not end by themselves.

    Belongs to the thread that runs it; only `stop()` may be called from any other.
    """

    def __init__(self, application: Application) -> None:
        super().__init__(
            uvicorn.Config(
                Logged(application),
                http=Protocol,
                interface="asgi3",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,  # no proxy is in front of a development server
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ended = threading.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, on a loop of its own."""
        try:
            super().run(sockets)
        finally:
            self._ended.set()

    def finish(self, status: int) -> None:
        """Stop the server and wait until it has stopped. End the process if that takes too long.

        Called by the main thread when it is about to end with `status`.
        """
        with suppress(KeyboardInterrupt):  # an impatient second Ctrl-C
            self.stop()
            if self._ended.wait(STOP_SECONDS):
                return
        leave(status)

    def stop(self) -> None:
        """Tell the server to stop, from any thread. Returns at once."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGINT or SIGTERM, in the main thread."""
        super().handle_exit(sig, frame)
        self.stop()

    async def main_loop(self) -> None:
        """Run uvicorn's main loop until `stop()`: it checks only every 0.1 s whether to stop."""
        self._loop = asyncio.get_running_loop()
        ticks = asyncio.ensure_future(super().main_loop())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((ticks, stopping), return_when=asyncio.FIRST_COMPLETED)
        ticks.cancel()
        stopping.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Disconnect the requests that are under way, then shut down as uvicorn does.

        uvicorn itself ends only websockets, and would wait for all other requests.
        """
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol):
                connection.transport.close()
        if threading.current_thread() is threading.main_thread():  # nobody called finish()
            killed = signal.SIGTERM in self._captured_signals
            status = 128 + signal.SIGTERM if killed else 0
            asyncio.get_running_loop().call_later(STOP_SECONDS, leave, status)
        await super().shutdown(sockets)


def leave(status: int) -> None:
    """End the process at once, although a thread may still run a project's code."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """One connection. A client that speaks HTTPS is reported in Django's words."""

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self.scope is None and data.startswith(TLS_HANDSHAKE):
            log_request(data[:2].decode("latin-1"), 400)
            self.transport.close()
        else:
            super().data_received(data)


class Logged:
    """An ASGI application whose requests are logged. Called by the loop's thread."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope. The log line is written after the response or the handshake."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._application(scope, receive, _logging_handshake(scope, send))
            # uvicorn reports a handshake that a response refused as one without an answer, unless
            # it has seen its own closing of the connection (its pull request 3138).
            await asyncio.sleep(0)
        else:
            await self._application(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = size = 0

        async def counting_send(message: Mapping[str, Any]) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif scope["method"] != "HEAD":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._application(scope, receive, counting_send)
        except BaseException:
            status = status or 500
            raise
        finally:
            if status:
                log_request(request_line(scope), status, size)
            else:
                logger.info("- Broken pipe from %s", scope["client"])


def _logging_handshake(scope: Scope, send: Send) -> Send:
    """Log how the handshake ended: accepted, refused, or answered by a response."""
    open = False

    async def logging_send(message: Mapping[str, Any]) -> None:
        nonlocal open
        status = {
            "websocket.accept": 101,
            "websocket.close": 403,
            "websocket.http.response.start": message.get("status"),
        }.get(message["type"])
        if status is not None and not open:
            open = True
            log_request(request_line(scope), status)
        await send(message)

    return logging_send


def request_line(scope: Scope) -> str:
    """The first line of the request, as the client sent it."""
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    target = (path + query).decode("latin-1")
    return f"{scope.get('method', 'GET')} {target} HTTP/{scope.get('http_version', '1.1')}"


def log_request(line: str, status: int, size: int = 0) -> None:
    """Log a request as `runserver` does: the format, the level and the logger are Django's."""
    _Line(line).log_request(str(status), size)


class _Line(WSGIRequestHandler):
    """Django's request handler, used for its logging alone. Lives for one line."""

    def __init__(self, line: str) -> None:
        self.requestline = line
        self.request: Any = None  # in Django's handler the socket
