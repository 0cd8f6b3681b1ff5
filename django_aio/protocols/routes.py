"""URL patterns of websocket routes and of ASGI applications.

Both protocols share one URLconf. HTTP requests do not see websocket routes; a handshake resolves in
a copy of the URLconf (`sockets_of()`) that has only these. In both `reverse()` knows all names.
(Django documentation, "URL dispatcher".)

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
        """Resolve as Django does, if the prefix ends at the end of a segment of the path."""
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
    """A route of the other protocol: `reverse()` knows it, but no path resolves to it."""

    def __init__(self, reachable: URLPattern) -> None:
        super().__init__(
            reachable.pattern, reachable.callback, reachable.default_args, reachable.name
        )
        self.reachable = reachable

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
    """Stand in for `URLPattern` in `path()` and `re_path()`: an application's route is a prefix."""
    if not hasattr(view, APPLICATION):
        return URLPattern(pattern, view, kwargs, name)
    if isinstance(pattern, RoutePattern):
        pattern = RoutePattern(pattern._route, name=name, is_endpoint=False)  # type: ignore[attr-defined]
    return ApplicationPattern(pattern, view, kwargs, name)


class Sockets:
    """A URLconf in which only websocket routes resolve."""

    def __init__(self, resolver: URLResolver) -> None:
        self._module = resolver.urlconf_module
        self.urlpatterns = _for_sockets(resolver.url_patterns)

    def __getattr__(self, name: str) -> Any:
        # The handlers of errors, such as handler404.
        return getattr(self._module, name)


def sockets_of(urlconf: str | Sockets) -> Sockets:
    """Return the URLconf in which the handshake of a websocket is resolved."""
    return urlconf if isinstance(urlconf, Sockets) else _sockets_of(get_resolver(urlconf))


@functools.lru_cache(maxsize=128)
def _sockets_of(resolver: URLResolver) -> Sockets:
    return Sockets(resolver)


def _for_sockets(patterns: Iterable[URLPattern | URLResolver]) -> list[URLPattern | URLResolver]:
    return [_pattern_for_sockets(pattern) for pattern in patterns]


def _pattern_for_sockets(pattern: URLPattern | URLResolver) -> URLPattern | URLResolver:
    if isinstance(pattern, WebSocketPattern):
        return pattern.reachable
    if isinstance(pattern, URLResolver):
        return URLResolver(
            pattern.pattern,
            _for_sockets(pattern.url_patterns),
            pattern.default_kwargs,
            pattern.app_name,
            pattern.namespace,
        )
    return UnreachablePattern(pattern)


class _Known:
    """Whether this process has made a view of an ASGI application."""

    applications = False


def application_exists() -> None:
    """Note that an application exists: requests are then resolved before their bodies are read."""
    _Known.applications = True


def may_lead_to_application() -> bool:
    """Whether a request could resolve to an ASGI application. Cheap, as each request asks."""
    return _Known.applications or "url_patterns" not in vars(get_resolver())


def leads_to_application(handler: ASGIHandler, scope: dict[str, Any]) -> bool:
    """Whether a request, as it is before the middleware, resolves to an ASGI application.

    Imports the URLconf if that has not happened yet. Ignores errors: Django will meet them as well.
    """
    try:
        resolver = get_resolver()
        if not resolver.url_patterns or not _Known.applications:
            return False
        request = handler.request_class(scope, io.BytesIO())
        return hasattr(resolver.resolve(request.path_info).func, APPLICATION)
    except Exception:
        return False
