"""`django.views.static.serve` on the loop: a thread looks at the directory and opens the file.

The view is Django's own, so it runs on the event loop, where a slow file system would stop all
requests. Any thread of the loop's executor will do: the view does not need the request's own thread
and its connection.
(Django documentation, "Serving files in development".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

from django_aio.bridge import in_bridge, wait
from django_aio.core.handlers.files import close_unsent
from django_aio.threads import in_any_thread


def serve(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`serve()`: in a thread if called on the loop. Arguments, result and errors are the same."""

    @functools.wraps(upstream)
    def serve(request: HttpRequest, path: str, *args: Any, **kwargs: Any) -> Any:
        view = functools.partial(upstream, request, path, *args, **kwargs)
        return wait(in_any_thread(view, unused=close_unsent)) if in_bridge() else view()

    return serve
