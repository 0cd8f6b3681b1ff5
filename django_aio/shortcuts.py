"""The async shortcuts that Django lacks: `arender()`, `astream()`, `aredirect()`.

The patch series adds them to `django.shortcuts` too. (Django documentation, "Django shortcut
functions".)
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from django import shortcuts
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template import loader

from django_aio.bridge import run
from django_aio.template.awaiting import await_variable, is_awaitable

if TYPE_CHECKING:
    from django.shortcuts import SupportsGetAbsoluteUrl
    from django.template.backends.base import _EngineTemplate

TemplateName = str | Sequence[str]
Context = dict[str, Any] | None


async def arender(
    request: HttpRequest | None,
    template_name: TemplateName,
    context: Context = None,
    content_type: str | None = None,
    status: int | None = None,
    using: str | None = None,
) -> HttpResponse:
    """Render a template into a response. The event loop goes on while the template waits.

    The arguments, the result and the errors are those of `render()`. May be called by any
    coroutine.
    """
    return await run(shortcuts.render, request, template_name, context, content_type, status, using)


def astream(
    request: HttpRequest | None,
    template_name: TemplateName,
    context: Context = None,
    content_type: str | None = None,
    status: int | None = None,
    using: str | None = None,
) -> StreamingHttpResponse:
    """Return a response that is rendered while it is sent, each piece before the next wait.

    The arguments are those of `render()`. The template is loaded before this function returns, so a
    missing template is an error of the view. The template is rendered after the middleware has
    finished with the response: a cookie or a session that it changes is changed too late. May be
    called by a view under ASGI, synchronous or asynchronous.

    An engine that cannot stream sends the page as a single piece.
    """
    if isinstance(template_name, str):
        template = loader.get_template(template_name, using=using)
    else:
        template = loader.select_template(list(template_name), using=using)
    pieces = getattr(template, "astream", None) or functools.partial(_whole, template)
    return StreamingHttpResponse(pieces(context, request), content_type=content_type, status=status)


async def _whole(template: _EngineTemplate, *args: Any) -> AsyncIterator[str]:
    yield await run(template.render, *args)


async def aredirect(
    to: Callable[..., Any] | str | SupportsGetAbsoluteUrl, *args: Any, **kwargs: Any
) -> HttpResponseRedirect:
    """Redirect to a URL, a view or an object whose `get_absolute_url()` may query or be async.

    The arguments, the result and the errors are those of `redirect()`. May be called by any
    coroutine.
    """
    return await run(shortcuts.redirect, to, *args, **kwargs)


def resolve_url(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`resolve_url()`: `get_absolute_url()` may be a coroutine function."""

    @functools.wraps(upstream)
    def resolve_url(to: object, *args: Any, **kwargs: Any) -> Any:
        url = upstream(to, *args, **kwargs)
        if isinstance(url, str) or not is_awaitable(type(url)):
            return url
        return await_variable(url, f"{type(to).__qualname__}.get_absolute_url()", remedy=REDIRECT)

    return resolve_url


REDIRECT = "Redirect with 'await aredirect(...)'."
