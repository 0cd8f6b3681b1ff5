"""`websocket()` and `asgi_view()`: other protocols and applications in `urlpatterns`.

    urlpatterns = [
        path("mcp/", asgi_view(mcp_application)),
        websocket("ws/room/<int:pk>/", views.room, name="room"),
    ]

(Django documentation, "URL dispatcher"; ASGI 3.0, "HTTP" and "WebSocket".)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.urls import URLPattern, path

from django_aio.protocols.exchange import Application, Exchange, application_scope
from django_aio.protocols.handshake import handshake_view
from django_aio.protocols.messages import body_of
from django_aio.protocols.routes import APPLICATION, WebSocketPattern, application_exists
from django_aio.websocket import as_application

View = Callable[..., Any]


class _Every:
    """All database aliases: an application outlives its view, so no transaction wraps the view."""

    def __contains__(self, alias: object) -> bool:
        return True


def asgi_view(application: Application) -> Callable[..., Awaitable[Any]]:
    """Return a view that passes its requests to an ASGI application.

    `path("mcp/", asgi_view(application))` matches "mcp/" and everything below it. The application
    gets a scope whose `root_path` ends there, and the body as it arrives; its response is streamed.
    It runs behind the project's middleware, and `scope["django.request"]` is the request. Django's
    decorators work on the view: `csrf_exempt(asgi_view(application))`, `login_required(...)`.

    For a URLconf that is served by ASGI. Under WSGI the view raises ImproperlyConfigured.
    (ASGI 3.0, "HTTP"; the scope's `root_path` is WSGI's SCRIPT_NAME.)
    """

    async def view(request: ASGIRequest, /, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(request, "scope"):
            raise ImproperlyConfigured(
                f"The path {request.path!r} belongs to an ASGI application, and this request came "
                "by WSGI. Serve the project by ASGI (get_asgi_application)."
            )
        scope = application_scope(request, args, kwargs)
        exchange = Exchange(application, request, scope, body_of(request))
        _close_with(request, exchange)
        return await exchange.response()

    name = getattr(application, "__qualname__", type(application).__qualname__)
    view.__name__ = view.__qualname__ = f"asgi_view({name})"
    setattr(view, APPLICATION, application)
    view._non_atomic_requests = _Every()  # type: ignore[attr-defined]
    application_exists()
    return view


def _close_with(request: HttpRequest, exchange: Exchange) -> None:
    """End the application when the request is closed: a middleware may discard its response."""
    close = request.close

    def close_both() -> None:
        try:
            exchange.close()
        finally:
            close()

    request.close = close_both  # type: ignore[method-assign]


def websocket(
    route: str, view: View, kwargs: dict[str, Any] | None = None, name: str | None = None
) -> URLPattern:
    """Return a route of `urlpatterns` for websockets. The arguments are those of `path()`.

    `view` is a coroutine function, called as `await view(socket, **captured)` with a
    `django_aio.websocket.WebSocket`, or an ASGI application: an object or function that takes
    `scope, receive, send`, or an `asgi_view()`, which also gets the paths below the route.

    Raises TypeError for any other view. (Django documentation, "path()"; ASGI 3.0, "WebSocket".)
    """
    application = _application_of(view)
    handshake = handshake_view(application, exempt=getattr(view, "csrf_exempt", False))
    if inspect.isfunction(view):
        # Copy the marks of decorators, such as login_not_required.
        functools.update_wrapper(handshake, view)
    handshake._non_atomic_requests = _Every()  # type: ignore[attr-defined]
    return WebSocketPattern(path(route, handshake, kwargs, name))


def _application_of(view: View) -> Application:
    mounted: Application | None = getattr(view, APPLICATION, None)
    if mounted is not None:
        return mounted
    if callable(view) and not inspect.isclass(view):
        if _takes_messages(view, False) or _takes_messages(view, True):
            application: Application = view
            return application
        if iscoroutinefunction(view):
            return as_application(view)
    raise TypeError(
        f"websocket() needs a coroutine function or an ASGI application, not {view!r}. Make the "
        "view 'async def view(socket, ...)'; of a Channels consumer pass 'Consumer.as_asgi()'."
    )


def _takes_messages(view: View, follow_wrapped: bool) -> bool:
    """Whether a callable, or what it wraps, has the signature of an ASGI application."""
    names = list(inspect.signature(view, follow_wrapped=follow_wrapped).parameters)
    return names[:3] == ["scope", "receive", "send"]
