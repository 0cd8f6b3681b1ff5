"""`ASGIHandler.send_response`: streams with back-pressure, files read by a thread or the server.

Django writes the messages. Only where a body comes from is new:

- An asynchronous generator is closed in the request's own task as soon as the response is over.
- A synchronous iterator that may run on the loop is advanced in the bridge, one chunk at a time.
- Any other is advanced in the request's thread, a bounded number of chunks ahead (`ahead.py`).
- A file on disk is read in a thread, a large block at a time, or sent by the server where the
  server offers `http.response.pathsend` and the response is the whole file as it is.

The next chunk is produced when `send()` has returned, so a slow client slows down its own stream
and memory does not grow. However a response ends, its iterators are closed where they ran.

(ASGI 3.0, "HTTP", and its extension "Path Send"; Django documentation, "StreamingHttpResponse
objects" and "FileResponse objects".)
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import FileResponse, HttpRequest, HttpResponseBase, StreamingHttpResponse

from django_aio.bridge import run
from django_aio.core.handlers.ahead import Ahead
from django_aio.core.handlers.files import DiskFile, in_memory, on_disk
from django_aio.http import (
    Sender,
    StreamingResponse,
    aclose,
    close,
    runs_on_loop,
    send_body,
)
from django_aio.protocols.messages import Send
from django_aio.threads import in_any_thread

_OVER = object()


def run_get_response(upstream: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`ASGIHandler.run_get_response`: note on a file response which request it answers."""

    @functools.wraps(upstream)
    async def run_get_response(self: ASGIHandler, request: HttpRequest) -> Any:
        response = await upstream(self, request)
        if isinstance(response, FileResponse):
            response._aio_request = request  # type: ignore[attr-defined]
        return response

    return run_get_response


def send_response(upstream: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """`ASGIHandler.send_response`: see the module."""

    @functools.wraps(upstream)
    async def send_response(self: ASGIHandler, response: HttpResponseBase, send: Send) -> None:
        if not isinstance(response, StreamingResponse):
            await upstream(self, response, send)
        elif response.is_async or not _is_iterated_by_django(type(response)):
            try:
                await upstream(self, response, send)
            finally:
                await aclose(response)
        else:
            await _send_synchronous(functools.partial(upstream, self), response, send)

    return send_response


def _is_iterated_by_django(cls: type[StreamingHttpResponse]) -> bool:
    """Whether no subclass overrides how the content is iterated over."""
    own = ("__aiter__", "streaming_content")
    return all(getattr(cls, name) is getattr(StreamingHttpResponse, name) for name in own)


async def _send_synchronous(sender: Sender, response: StreamingResponse, send: Send) -> None:
    """Send a response whose content is a synchronous iterator."""
    if getattr(response, "file_to_stream", None) is not None:
        await _send_file(sender, response, send)
    elif runs_on_loop(response._iterator):
        await _send_chunks(sender, response, send, run)
    else:
        ahead = Ahead(response._iterator, functools.partial(close, response))
        await ahead.send(send_body(sender, response, send, ahead))


async def _send_file(sender: Sender, response: StreamingResponse, send: Send) -> None:
    """Send a FileResponse whose content is still the file that the view gave it."""
    file = response.file_to_stream
    prepared: DiskFile | None = getattr(response, "_aio_prepared", None)
    if prepared is None and on_disk(file):
        request = getattr(response, "_aio_request", None)
        prepared = await in_any_thread(DiskFile, response, request)
    if prepared is not None:
        await prepared.send(sender, send)
    else:
        call = run if in_memory(file) else _in_thread_of_request
        await _send_chunks(sender, response, send, call)


async def _in_thread_of_request(func: Callable[..., Any], *args: Any) -> Any:
    return await sync_to_async(func)(*args)


async def _send_chunks(
    sender: Sender, response: StreamingResponse, send: Send, call: Callable[..., Awaitable[Any]]
) -> None:
    """Send what `call(next, iterator)` returns, one chunk after the other."""
    iterator = response._iterator

    async def chunks() -> AsyncGenerator[Any]:
        while (chunk := await call(next, iterator, _OVER)) is not _OVER:
            yield chunk

    try:
        await send_body(sender, response, send, chunks())
    finally:
        await call(close, response)
