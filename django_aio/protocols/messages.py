"""ASGI messages between a server and an application inside Django, read at most one ahead.

`Feed` reads what the server sends. It reads one message ahead of the application, so that a
disconnect is noticed even while the application does not receive, and a client that sends faster
than the application reads is slowed down. `Upload` is a feed seen as a request's body. `Replay` is
a body that Django has already read, seen as a feed.

One of each per request; used by the tasks of that request only. (ASGI 3.0, "HTTP", "WebSocket".)
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any, Protocol

from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import RequestAborted
from django.http import HttpRequest

from django_aio.bridge import in_bridge

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

BLOCK_SIZE = 2**16


class Source(Protocol):
    """The source of an application's messages."""

    told: bool  # the application has received the disconnect

    async def receive(self) -> Message:
        """Return the next message; after a disconnect, the disconnect each time."""

    def end(self) -> None:
        """Tell an application that is waiting in `receive()` that the client has disconnected.

        Perhaps it has not, but the request is over.
        """


class Feed:
    """The messages of a server, for one application. See the module."""

    def __init__(self, receive: Receive, protocol: str) -> None:
        self.protocol = protocol
        self.told = False
        self.disconnect: Message | None = None
        self.finished = False  # the application has closed, so a disconnect is not an abort
        self._receive = receive
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._listeners = 0

    def preload(self, message: Message) -> None:
        """Put in a message that has been received already."""
        self._messages.put_nowait(message)

    async def pump(self) -> None:
        """Read until the client has gone. Raises RequestAborted then."""
        while self.disconnect is None:
            message = await self._receive()
            if message["type"] == f"{self.protocol}.disconnect":
                self._put_disconnect(message)
            else:
                await self._put(message)
        if not self.finished:
            raise RequestAborted()

    async def _put(self, message: Message) -> None:
        self._taken.clear()
        self._messages.put_nowait(message)
        # After the end of a body, and after the handshake, only a disconnect can follow.
        if message.get("more_body") or message["type"] == "websocket.receive":
            await self._taken.wait()

    def _put_disconnect(self, message: Message) -> None:
        self.disconnect = message
        self.told = self.told or self._listeners > 0
        self._messages.put_nowait(message)

    async def receive(self) -> Message:
        """The `receive` of the application."""
        self._listeners += 1
        try:
            message = await self._messages.get()
        finally:
            self._listeners -= 1
        self._taken.set()
        if message is self.disconnect:
            self.told = True
            self._messages.put_nowait(message)  # for the next call
        return message

    def end(self) -> None:
        """See Source."""
        if self.disconnect is None:
            self._put_disconnect({"type": f"{self.protocol}.disconnect"})


class Upload:
    """The body of a request to an ASGI application, as a file for all other code.

    Code that reads the file before the application runs (`request.POST` in a middleware) causes the
    whole body to be read; the application then gets it from the file.
    """

    def __init__(self, feed: Feed, read_body: Callable[[Receive], Awaitable[IO[bytes]]]) -> None:
        self.feed = feed
        self.file: IO[bytes] | None = None
        self._read_body = read_body
        self._streamed = False

    def stream(self) -> Feed:
        """Return the messages for the application. From now on no other code can read the body."""
        self._streamed = True
        return self.feed

    def __getattr__(self, name: str) -> Any:
        if self.file is None:
            self._fill()
        return getattr(self.file, name)

    def _fill(self) -> None:
        if self._streamed:
            raise RuntimeError(
                "The body of this request is streamed to an ASGI application. Read it there, or "
                "before the application is called."
            )
        if asyncio._get_running_loop() is not None and not in_bridge():
            raise RuntimeError(
                "The body of this request has not been read, because the path leads to an ASGI "
                "application, and a coroutine cannot read it by an attribute. Use 'await "
                'run(getattr, request, "body")\', with run from django_aio.'
            )
        async_to_sync(self._read)()

    async def _read(self) -> None:
        self.file = await self._read_body(self.feed.receive)

    def close(self) -> None:
        """Keep the file open: the application may still need it. See discard()."""

    def discard(self) -> None:
        """Close the file. Called when the request is over."""
        if self.file is not None:
            self.file.close()


class Replay:
    """The messages of a body that Django has already read, followed by the disconnect."""

    def __init__(self, request: HttpRequest) -> None:
        self.told = False
        self._file: Any = _body_file(request)
        self._listeners = 0
        self._over = asyncio.Event()

    async def receive(self) -> Message:
        """See Source."""
        if self._file is not None:
            body = await self._read()
            if len(body) < BLOCK_SIZE:
                self._file = None
            return {"type": "http.request", "body": body, "more_body": self._file is not None}
        self._listeners += 1
        try:
            await self._over.wait()
        finally:
            self._listeners -= 1
        self.told = True
        return {"type": "http.disconnect"}

    async def _read(self) -> bytes:
        read = self._file.read
        if getattr(self._file, "_rolled", False):  # a large body is a file on disk
            read = sync_to_async(read, thread_sensitive=False)
            return bytes(await read(BLOCK_SIZE))
        return bytes(read(BLOCK_SIZE))

    def end(self) -> None:
        """See Source."""
        self.told = self.told or self._listeners > 0
        self._over.set()


def _body_file(request: HttpRequest) -> Any:
    if hasattr(request, "_body"):
        return io.BytesIO(request._body)
    stream = request._stream
    file: Any = stream.file if isinstance(stream, Upload) else stream
    if file.seekable():
        file.seek(0)
    return file


def body_of(request: HttpRequest) -> Source:
    """Return the body of a request as messages: live unless some code has already read it."""
    stream = getattr(request, "_stream", None)
    if isinstance(stream, Upload) and stream.file is None and not hasattr(request, "_body"):
        return stream.stream()
    return Replay(request)
