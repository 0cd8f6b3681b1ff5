"""URL patterns of websocket routes and of ASGI applications.

Both protocols share one URLconf. A websocket route is invisible to HTTP requests; a handshake
resolves in a twin of the URLconf (`sockets_of()`), in which it is the other way round. In both
`reverse()` knows all names. (Django documentation, "URL dispatcher".)

Patterns are made while a URLconf is imported and only read after that, by any thread.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern, ResolverMatch, RoutePattern

from django_aio.protocols.exchange import REST

# The mark of a view that is an ASGI application.
APPLICATION = "asgi_application"


class ApplicationPattern(URLPattern):
    """The route to an ASGI application: it matches a prefix, and captures the rest of the path."""

    def resolve(self, path: str) -> ResolverMatch | None:
        """As Django's, if the prefix ends where a segment of the path does."""
        match = super().resolve(path)
        found = self.pattern.match(path)
        if match is None or found is None:
            return None
        rest = found[0]
        prefix = path[: len(path) - len(rest)]
        if prefix and rest and not prefix.endswith("/") and not rest.startswith("/"):
            return None
        match.kwargs[REST] = rest
        return match


class UnreachablePattern(URLPattern):
    """A route of the other protocol: `reverse()` knows it, and nothing resolves to it."""

    def __init__(self, twin: URLPattern) -> None:
        super().__init__(twin.pattern, twin.callback, twin.default_args, twin.name)
        self.twin = twin

    def resolve(self, path: str) -> None:
        """Match nothing."""


class WebSocketPattern(UnreachablePattern):
    """A websocket route, in the URLconf that HTTP requests see."""


def url_pattern(
    pattern: RegexPattern | RoutePattern,
    view: Callable[..., Any],
    kwargs: dict[str, Any] | None = None,
    name: str | None = None,
) -> URLPattern:
    """Stands in for `URLPattern` in `path()` and `re_path()`: applications get prefixes."""
    if not hasattr(view, APPLICATION):
        return URLPattern(pattern, view, kwargs, name)
    if isinstance(pattern, RoutePattern):
        pattern = RoutePattern(pattern._route, name=name, is_endpoint=False)  # type: ignore[attr-defined]
    return ApplicationPattern(pattern, view, kwargs, name)


class Sockets:
    """A URLconf in which websocket routes resolve, and HTTP's do not."""

    def __init__(self, resolver: URLResolver) -> None:
        self._module = resolver.urlconf_module
        self.urlpatterns = _twins(resolver.url_patterns)

    def __getattr__(self, name: str) -> Any:
        # handler404 and the like.
        return getattr(self._module, name)


def sockets_of(urlconf: str | Sockets) -> Sockets:
    """What stands for a URLconf while a websocket's handshake is resolved."""
    return urlconf if isinstance(urlconf, Sockets) else _sockets_of(get_resolver(urlconf))


@functools.lru_cache(maxsize=128)
def _sockets_of(resolver: URLResolver) -> Sockets:
    return Sockets(resolver)


def _twins(patterns: Iterable[URLPattern | URLResolver]) -> list[URLPattern | URLResolver]:
    return [_twin(pattern) for pattern in patterns]


def _twin(pattern: URLPattern | URLResolver) -> URLPattern | URLResolver:
    if isinstance(pattern, WebSocketPattern):
        return pattern.twin
    if isinstance(pattern, URLResolver):
        return URLResolver(
            pattern.pattern,
            _twins(pattern.url_patterns),
            pattern.default_kwargs,
            pattern.app_name,
            pattern.namespace,
        )
    return UnreachablePattern(pattern)


class _Known:
    """Whether this process has made a view of an ASGI application."""

    applications = False


def application_exists() -> None:
    """Note that there is one, so that requests are resolved before their bodies are read."""
    _Known.applications = True


def may_lead_to_application() -> bool:
    """Whether a request could resolve to an ASGI application. Cheap: asked for each request."""
    return _Known.applications or "url_patterns" not in vars(get_resolver())


def leads_to_application(handler: ASGIHandler, scope: dict[str, Any]) -> bool:
    """Whether a request, as it stands before the middleware, resolves to an ASGI application.

    Imports the URLconf if nothing has. Errors are left to Django, which will meet them as well.
    """
    try:
        resolver = get_resolver()
        if not resolver.url_patterns or not _Known.applications:
            return False
        request = handler.request_class(scope, io.BytesIO())
        return hasattr(resolver.resolve(request.path_info).func, APPLICATION)
    except Exception:
        return False
