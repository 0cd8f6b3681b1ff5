"""The end of a request: its client disconnects or is answered, `request_finished` is sent once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from asgiref.sync import SyncToAsync, sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.http import HttpRequest, HttpResponseBase

from django_aio.protocols.messages import Send


def finish(sender: type, request: HttpRequest | None, response: HttpResponseBase | None) -> None:
    """Close the response, or else the request. Either way `request_finished` is sent once."""
    if response is not None:
        response.close()
        return
    try:
        if request is not None:
            request.close()
    finally:
        signals.request_finished.send(sender=sender)


async def until_thread_is_idle() -> None:
    """Wait for what a cancelled request left running in its thread.

    A function in a thread cannot be interrupted. It uses the connections of the request, and
    asgiref, which stops the thread with the request, would block the loop until the function ends.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is not None and context in SyncToAsync.context_to_thread_executor:
        await sync_to_async(_nothing)()


def _nothing() -> None:
    """Do nothing. When the thread runs this, it was idle."""


def or_abort(send: Send) -> Send:
    """Return `send` with RequestAborted for the OSError that servers raise if the client has gone.

    For Django a RequestAborted is not an error.
    """

    async def send_or_abort(message: Mapping[str, Any]) -> None:
        try:
            await send(message)
        except OSError as error:
            raise RequestAborted() from error

    return send_or_abort


class UntilDisconnect:
    """Cancels the task's block when the client disconnects, and swallows that cancellation.

    `listen()` raises RequestAborted when the client has gone. Listening costs a task, so it begins
    when the request first waits: a request that never waits has answered before a disconnect could
    be noticed. A RequestAborted that the block raises is swallowed as well. Used by one task.
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
        if listener.cancelled() or self._task is None:
            return
        self._over = listener.exception()
        if self._over is not None:
            self._task.cancel()

    def stop(self) -> None:
        """Stop listening: the answer is complete, and servers report its end as a disconnect."""
        if self._over is None:
            self._task = None
        self._start.cancel()
        if self._listener is not None:
            self._listener.cancel()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        task = self._task
        self.stop()
        if self._over is None or task is None:
            return isinstance(exc_value, RequestAborted)
        task.uncancel()
        if not isinstance(self._over, RequestAborted):
            raise self._over
        return isinstance(exc_value, (asyncio.CancelledError, RequestAborted))
