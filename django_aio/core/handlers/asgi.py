"""One ASGI request in one greenlet: `ASGIHandler.handle` and the lifespan protocol.

The parts are Django's: reading the body, building the request, sending the response, listening for
the client's disconnect. What is new is where they run: the signals, the middleware chain, the view
and the closing of the response share one task and one greenlet. A client that disconnects cancels
that task's request, and with it the statement that it waits for.

(ASGI 3.0, "HTTP" and "Lifespan"; Django documentation, "Asynchronous support".)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from types import TracebackType
from typing import IO, Any, Self

from asgiref.sync import SyncToAsync, sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import close_old_connections
from django.urls import set_script_prefix

from django_aio.bridge import run, wait
from django_aio.core.handlers.base import is_bridged
from django_aio.db.pool import close_store

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


def call(upstream: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """`ASGIHandler.__call__`: accept the lifespan protocol as well as HTTP."""

    @functools.wraps(upstream)
    async def __call__(self: ASGIHandler, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await upstream(self, scope, receive, send)

    return __call__


async def _lifespan(receive: Receive, send: Send) -> None:
    """Accept start-up; at shutdown close the connections that wait on this loop."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await close_store()
            await send({"type": "lifespan.shutdown.complete"})
            return


def handle(upstream: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """`ASGIHandler.handle`: one HTTP request, in one greenlet."""

    @functools.wraps(upstream)
    async def handle(self: ASGIHandler, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_bridged(self):
            await upstream(self, scope, receive, send)
            return
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with closing(body):
            async with _UntilDisconnect(functools.partial(self.listen_for_disconnect, receive)):
                try:
                    await run(_serve, self, scope, body, send)
                finally:
                    await _close_connections_of_thread()

    return handle


def _serve(handler: ASGIHandler, scope: Scope, body: IO[bytes], send: Send) -> None:
    """Answer one request. However it ends, `request_finished` is sent once."""
    sender = type(handler)
    response = None
    set_script_prefix(get_script_prefix(scope))
    try:
        signals.request_started.send(sender=sender, scope=scope)
        request, response = handler.create_request(scope, body)
        if request is not None:
            response = wait(handler.run_get_response(request))
        wait(handler.send_response(response, send))
    finally:
        if response is None:
            signals.request_finished.send(sender=sender)
        else:
            response.close()


async def _close_connections_of_thread() -> None:
    """If the request used a thread of its own, tidy up that thread's connections there.

    Django does this by the signal, which it sends in that thread; here it is sent on the loop.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is not None and context in SyncToAsync.context_to_thread_executor:
        await sync_to_async(close_old_connections)()


class _UntilDisconnect:
    """Cancels the task's block when the client disconnects, and swallows that cancellation.

    Listening costs a task, so it begins when the request first waits for something: one that
    never does has answered before a disconnect could be noticed. Used by one task.
    """

    def __init__(self, listen: Callable[[], Awaitable[None]]) -> None:
        self._listen = listen
        self._listener: asyncio.Task[None] | None = None
        self._over: BaseException | None = None  # what the listener ended with

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._start = asyncio.get_running_loop().call_soon(self._begin)
        return self

    def _begin(self) -> None:
        self._listener = asyncio.ensure_future(self._listen())
        self._listener.add_done_callback(self._ended)

    def _ended(self, listener: asyncio.Future[None]) -> None:
        if not listener.cancelled() and self._task is not None:
            self._over = listener.exception()
            self._task.cancel()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        task, self._task = self._task, None
        self._start.cancel()
        if self._listener is not None:
            self._listener.cancel()
        if self._over is None or task is None:
            return False
        task.uncancel()
        if not isinstance(self._over, RequestAborted):
            raise self._over
        return exc_type is not None and issubclass(exc_type, asyncio.CancelledError)
