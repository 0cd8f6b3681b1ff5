"""Class-based views with asynchronous handlers: everything before the handler runs in the bridge.

`dispatch()` is synchronous, and so is what overrides it: a mixin that looks at `request.user`, a
decorator that redirects. In a view with asynchronous handlers it runs inside the bridge, so that it
may wait, and what it returns is awaited if it is an awaitable, else it is the response. Without us
Django awaits it in any case, which fails for a redirect.

A view object serves one request. (Django documentation, "Asynchronous class-based views".)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from django_aio.bridge import in_bridge, run


def setup(upstream: Callable[..., None]) -> Callable[..., None]:
    """`View.setup`: the view's `dispatch()` answers with an awaitable if its handlers do."""

    @functools.wraps(upstream)
    def setup(self: Any, request: Any, *args: Any, **kwargs: Any) -> None:
        upstream(self, request, *args, **kwargs)
        if self.view_is_async:
            self.dispatch = functools.partial(_dispatch, self)

    return setup


def _dispatch(view: Any, *args: Any, **kwargs: Any) -> Awaitable[Any]:
    """Stands in front of the `dispatch()` of one view object, for one call."""
    vars(view).pop("dispatch", None)  # it refers to the view: the two would outlive the request
    if in_bridge():
        return _response(view.dispatch(*args, **kwargs))
    return _dispatch_in_bridge(view, *args, **kwargs)


async def _dispatch_in_bridge(view: Any, *args: Any, **kwargs: Any) -> Any:
    return await _response(await run(view.dispatch, *args, **kwargs))


async def _response(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer
