"""`ASGIStaticFilesHandler`: a static file in one hand-over to a thread.

Finding the file, looking at it, its first block, and a 304 or 404 in its place are one call in a
thread of the loop's executor. The request runs in the bridge like any other, so nothing else goes
to a thread, and none has a database connection. (Django documentation, "The staticfiles app".)
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from django.http import FileResponse, HttpRequest, HttpResponseBase

from django_aio.core.handlers.files import DiskFile, close_unsent, on_disk
from django_aio.threads import in_any_thread

if TYPE_CHECKING:
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

# The handler loads no middleware, which is where others learn that they run in the bridge.
BRIDGED = True


def get_response_async(upstream: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`ASGIStaticFilesHandler.get_response_async`: the response, with its file read or named."""

    @functools.wraps(upstream)
    async def get_response_async(
        self: ASGIStaticFilesHandler, request: HttpRequest
    ) -> HttpResponseBase:
        return await in_any_thread(_respond, self, request, unused=close_unsent)

    return get_response_async


def _respond(handler: ASGIStaticFilesHandler, request: HttpRequest) -> HttpResponseBase:
    """Answer the request, in a thread. No middleware follows, so the file may be read at once."""
    response: Any = handler.get_response(request)
    response._resource_closers.append(request.close)
    if isinstance(response, FileResponse) and on_disk(response.file_to_stream):
        response._aio_prepared = DiskFile(response, request)  # type: ignore[attr-defined, arg-type]
    return response  # type: ignore[no-any-return]
