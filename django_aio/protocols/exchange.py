"""An ASGI application inside a Django request: it runs in a task, and its answer is a response.

The first message that the application sends becomes a Django response, which the middleware sees.
The following ones are the response's body, a chunk at a time: `send()` waits until the chunk before
has been taken.

Guarantees: the application's task ends with the request. At a disconnect an application that waits
in `receive()` is told and has `GRACE` seconds to end; any other is cancelled. An application that
has completed its answer may go on (background tasks), and the request waits for it. An error before
the answer is raised in the view, an error during the answer closes the connection, and later errors
are logged.

Used by the tasks of one request. (ASGI 3.0, "HTTP".)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.core.signals import got_request_exception
from django.http import HttpRequest, StreamingHttpResponse

from django_aio.bridge import in_bridge, run, wait
from django_aio.protocols.messages import Message, Receive, Scope, Send, Source

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("django.request")

# The name under which the route to an application captures the rest of the path.
REST = "asgi_path"
# Seconds. An application that does not end within them is left behind, and an error is logged.
GRACE = 5.0


class ApplicationResponse(StreamingHttpResponse):
    """The answer of an ASGI application. Its cookies are sent as it wrote them."""

    def __init__(self, body: AsyncGenerator[bytes], start: Message) -> None:
        super().__init__(body, status=start["status"])
        del self.headers["Content-Type"]
        self._set_cookies: list[tuple[str, str]] = []
        for raw_name, raw_value in start.get("headers", ()):
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            if name.lower() == "set-cookie":
                self._set_cookies.append((name, value))
            elif name in self.headers:  # RFC 9110, section 5.3
                self.headers[name] += f", {value}"
            else:
                self.headers[name] = value

    def items(self) -> Any:
        """The headers, of which Django keeps one for each name, and every cookie."""
        return [*super().items(), *self._set_cookies]


class Exchange:
    """One run of an application. See the module."""

    protocol = "http"

    def __init__(
        self, application: Application, request: HttpRequest, scope: Scope, source: Source
    ) -> None:
        self.request = request
        self.source = source
        self.complete = False
        self.failure: Exception | None = None
        self._application = application
        self._sent: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(1)  # for one message that has not been taken yet
        self.task = asyncio.create_task(self._run(scope), name=f"{self.protocol} {request.path}")
        self.task.add_done_callback(lambda task: self._sent.put_nowait(None))

    async def _run(self, scope: Scope) -> None:
        try:
            await self._application(scope, self.source.receive, self.send)
        except Exception as error:
            self.failure = error

    async def send(self, message: Mapping[str, Any]) -> None:
        """The `send` of the application."""
        if self.complete:
            raise RuntimeError(f"The application sent {message['type']!r} after its response.")
        await self._room.acquire()
        self._sent.put_nowait(message)

    async def next(self, expected: str) -> Message:
        """Wait for the next message, whose type ends with `expected`.

        Raises what the application raised, or RuntimeError if it ended or sent another message.
        """
        message = await self._sent.get()
        self._room.release()
        if message is not None and message["type"].endswith(expected):
            return dict(message)
        failure, self.failure = self.failure, None
        what = "ended" if message is None else f"sent {message['type']!r}"
        raise failure or RuntimeError(f"The ASGI application {what} instead of a {expected!r}.")

    async def response(self) -> ApplicationResponse:
        """Wait for the start of the answer. Raises what the application raises before that."""
        try:
            start = await self.next("http.response.start")
            return ApplicationResponse(self.body(), start)
        except BaseException:
            await self.aclose()
            raise

    async def body(self) -> AsyncGenerator[bytes]:
        """The chunks of the answer."""
        while not self.complete:
            message = await self.next("http.response.body")
            self.complete = not message.get("more_body", False)
            chunk = message.get("body", b"")
            if chunk:
                yield bytes(chunk)

    def close(self) -> None:
        """End the application when the request is closed, inside the bridge or outside."""
        if in_bridge():
            wait(self.aclose())
        elif not self.complete:
            self.source.end()
            self.task.cancel()

    async def aclose(self) -> None:
        """End the application, as the module says."""
        self.source.end()
        try:
            if self.complete or self.source.told:
                await asyncio.wait({self.task}, timeout=None if self.complete else GRACE)
        finally:
            if self.task.cancel():
                await self._cancelled()
        if self.failure is not None:
            await run(self.report)

    async def _cancelled(self) -> None:
        _, pending = await asyncio.wait({self.task}, timeout=GRACE)
        if pending:
            logger.error(
                "The application behind %s goes on %g seconds after it was cancelled.",
                self.request.path,
                GRACE,
            )

    def report(self) -> None:
        """Log an error of the application that is too late for the response."""
        failure, self.failure = self.failure, None
        assert failure is not None
        if self.source.told and _is_disconnect(failure):
            return
        got_request_exception.send(sender=None, request=self.request)
        logger.error(
            "Internal Server Error: %s",
            self.request.path,
            exc_info=failure,
            extra={"status_code": 500, "request": self.request},
        )


def _is_disconnect(failure: Exception) -> bool:
    """Whether the failure is only that the client had gone when the application used it."""
    if isinstance(failure, ExceptionGroup):  # of a task group that reads and writes
        return failure.split(OSError)[1] is None
    return isinstance(failure, OSError)


def application_scope(
    request: ASGIRequest, args: Sequence[object], kwargs: dict[str, Any]
) -> Scope:
    """The scope for an application below Django.

    `path` stays whole, and `root_path` ends where the application begins. `django.request` is the
    request; `session` and `user` are those of the middleware; `url_route` and `path_params` hold
    what the URL pattern captured, as Channels and Starlette name it.
    """
    scope: Scope = {**request.scope}
    root = (request.script_name or "").rstrip("/")
    rest = kwargs.pop(REST, None)
    before = "" if rest is None else request.path_info.removesuffix(rest).rstrip("/")
    scope["path"] = f"{root}{request.path_info}"
    scope["root_path"] = f"{root}{before}"
    scope["django.request"] = request
    scope["url_route"] = {"args": args, "kwargs": kwargs}
    scope["path_params"] = {**scope.get("path_params", {}), **kwargs}
    # Other extensions of the server, such as sending a file by its path, bypass the middleware.
    kept = ("tls", "websocket.http.response")
    extensions = scope.get("extensions") or {}
    scope["extensions"] = {name: extensions[name] for name in kept if name in extensions}
    for name in ("session", "user"):
        if hasattr(request, name):
            scope[name] = getattr(request, name)
    return scope
