"""`ASGIStaticFilesHandler`: a static file in one call in a thread.

One call in a thread of the loop's executor finds the file, examines it and reads its first block,
or makes a 304 or 404. The request runs in the bridge like any other, so nothing else uses a thread,
and no thread has a database connection. (Django documentation, "The staticfiles app".)
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

# Other handlers note that they run in the bridge when they load middleware; this one loads none.
BRIDGED = True


def get_response_async(upstream: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`ASGIStaticFilesHandler.get_response_async`: find the file and answer in a thread."""

    @functools.wraps(upstream)
    async def get_response_async(
        self: ASGIStaticFilesHandler, request: HttpRequest
    ) -> HttpResponseBase:
        return await in_any_thread(_respond, self, request, unused=close_unsent)

    return get_response_async


def _respond(handler: ASGIStaticFilesHandler, request: HttpRequest) -> HttpResponseBase:
    """Answer the request, in a thread. No middleware follows, so the file may be read here."""
    response: Any = handler.get_response(request)
    response._resource_closers.append(request.close)
    if isinstance(response, FileResponse) and on_disk(response.file_to_stream):
        response._aio_prepared = DiskFile(response, request)  # type: ignore[attr-defined, arg-type]
    return response  # type: ignore[no-any-return]
