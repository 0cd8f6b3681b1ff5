"""URL patterns of websocket routes and of ASGI applications.

Both protocols share one URLconf. A websocket route is invisible to HTTP requests; a handshake
resolves in a twin of the URLconf (`sockets_of()`), in which it is the other way round. In both
`reverse()` knows all names. (Django documentation, "URL dispatcher".)

Patterns are made while a URLconf is imported and only read after that, by any thread.
"""

from __future__ import annotations

import functools
import io
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.handlers.asgi import ASGIHandler
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import ResolverMatch, RoutePattern
from django.utils.translation import get_language

from django_aio.core.handlers.exchange import REST
from django_aio.utils.kept import keep

# The mark of a view that is an ASGI application.
APPLICATION = "asgi_application"
# Where a resolver keeps the URLs that it has made, and how many.
MADE = "_aio_made"
MAX_MADE = 4096
# Types of arguments of which the same always gives the same URL.
PLAIN = frozenset({int, str, uuid.UUID})


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
    pattern: Any, view: Any, kwargs: dict[str, Any] | None = None, name: str | None = None
) -> URLPattern:
    """Stands in for `URLPattern` in `path()` and `re_path()`: applications get prefixes."""
    if not hasattr(view, APPLICATION):
        return URLPattern(pattern, view, kwargs, name)
    if isinstance(pattern, RoutePattern):
        pattern = RoutePattern(pattern._route, name=name, is_endpoint=False)  # type: ignore[attr-defined]
    return ApplicationPattern(pattern, view, kwargs, name)


class _Sockets:
    """A URLconf in which websocket routes resolve, and HTTP's do not."""

    def __init__(self, resolver: URLResolver) -> None:
        self._module = resolver.urlconf_module
        self.urlpatterns = _twins(resolver.url_patterns)

    def __getattr__(self, name: str) -> Any:
        # handler404 and the like.
        return getattr(self._module, name)


def sockets_of(urlconf: Any) -> Any:
    """What stands for a URLconf while a websocket's handshake is resolved."""
    return urlconf if isinstance(urlconf, _Sockets) else _sockets_of(get_resolver(urlconf))


@functools.lru_cache(maxsize=128)
def _sockets_of(resolver: URLResolver) -> _Sockets:
    return _Sockets(resolver)


def _twins(patterns: Any) -> list[Any]:
    return [_twin(pattern) for pattern in patterns]


def _twin(pattern: Any) -> Any:
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


class Made(NamedTuple):
    """A URL that a resolver has made, and what converters of a project's said to it."""

    url: str
    said: list[tuple[Any, Any, str]]  # the converter, what it was asked, its answer


class Reversed:
    """The URLs that a resolver has made for one active language.

    As long as the resolver's list of patterns is `patterns`. Read and written by any thread.
    """

    __slots__ = ("patterns", "urls")

    def __init__(self, patterns: Any) -> None:
        self.patterns = patterns
        self.urls: dict[Any, Made] = {}

    def find(self, key: Any) -> str | None:
        """A URL that was made before, if all converters would say the same again."""
        made = self.urls.get(key)
        if made is None:
            return None
        for converter, value, text in made.said:
            try:
                if converter.to_url(value) != text:
                    return None
            except ValueError:
                return None
        return made.url

    def keep(self, key: Any, url: str) -> None:
        """Keep a URL that was just made, if there is one pattern of that name."""
        name, _, args, kwargs = key
        possibilities = self.patterns.getlist(name)
        if len(possibilities) != 1 or len(possibilities[0][0]) != 1:
            return
        [[[_, parameters]], _, _, converters] = possibilities[0]
        values = dict(zip(parameters, args, strict=True)) if args else dict(kwargs)
        said = [
            (converter, values[parameter], converter.to_url(values[parameter]))
            for parameter, converter in converters.items()
            if parameter in values and not _is_djangos(converter)
        ]
        keep(self.urls, key, Made(url, said), MAX_MADE)


def key_of(name: Any, prefix: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Under what a URL is kept, or None for one that is not: not all that is equal is the same."""
    if type(name) is not str or not PLAIN.issuperset(map(type, args or kwargs.values())):
        return None
    return name, prefix, args, tuple(kwargs.items())


def reversed_by(resolver: URLResolver, language: str | None) -> Reversed:
    """What a resolver has made for a language, unless its patterns were read anew since."""
    kept: dict[str | None, Reversed] = vars(resolver).setdefault(MADE, {})
    known = kept.get(language)
    if known is None or known.patterns is not resolver._reverse_dict.get(language):
        known = kept[language] = Reversed(resolver.reverse_dict)
    return known


def _is_djangos(converter: Any) -> bool:
    module: str = type(converter).to_url.__module__
    return module == "django.urls.converters"


def reverse_with_prefix(upstream: Callable[..., str]) -> Callable[..., str]:
    """`URLResolver._reverse_with_prefix`: a URL that was made before is not made again.

    Those of names with plain arguments. A page has dozens of links, most of them on the page before
    too.
    """

    @functools.wraps(upstream)
    def _reverse_with_prefix(
        self: URLResolver, lookup_view: Any, _prefix: str, *args: Any, **kwargs: Any
    ) -> str:
        key = key_of(lookup_view, _prefix, args, kwargs)
        known = None if key is None else reversed_by(self, get_language())
        url = None if known is None else known.find(key)
        if url is None:
            url = upstream(self, lookup_view, _prefix, *args, **kwargs)
            if known is not None:
                known.keep(key, url)
        return url

    return _reverse_with_prefix


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
