"""`reverse()`: cache the URLs that a resolver has made.

A page has dozens of links, most of which the page before had too. The cache belongs to the resolver
and lasts until the resolver reads its patterns again. (Django documentation, "Reverse resolution of
URLs".)
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from django.urls import URLResolver
from django.utils.datastructures import MultiValueDict
from django.utils.translation import get_language

from django_aio.speedups.bounded import keep

# The attribute of a resolver with the URLs that it has made, and their greatest number.
MADE = "_aio_made"
MAX_MADE = 4096
# Types of arguments: equal arguments of these types always give the same URL.
PLAIN = frozenset({int, str, uuid.UUID})


# The name of a URL, the prefix, and the arguments.
Key = tuple[str, str, tuple[Any, ...], tuple[tuple[str, Any], ...]]


class Converter(Protocol):
    """A path converter, as far as it makes URLs."""

    def to_url(self, value: Any, /) -> str:
        """Return the text of a value in a URL. Raises ValueError if it has none."""


class Made(NamedTuple):
    """A URL that a resolver has made, and the results of a project's converters in it."""

    url: str
    said: list[tuple[Converter, Any, str]]  # the converter, its argument, its result


class Reversed:
    """The URLs that a resolver has made for one active language.

    Valid while `patterns` is the resolver's reverse dictionary. Read and written by any thread.
    """

    __slots__ = ("patterns", "urls")

    def __init__(self, patterns: MultiValueDict[Any, Any]) -> None:
        self.patterns = patterns
        self.urls: dict[Key, Made] = {}

    def find(self, key: Key) -> str | None:
        """Return the cached URL if there is one and all its converters still give the same text."""
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

    def keep(self, key: Key, url: str) -> None:
        """Cache a URL that was just made, if only one pattern has its name."""
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


def key_of(name: object, prefix: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key | None:
    """Return the cache key, or None if the arguments are unsafe as a key (1 == True == 1.0)."""
    if type(name) is not str or not PLAIN.issuperset(map(type, args or kwargs.values())):
        return None
    return name, prefix, args, tuple(kwargs.items())


def reversed_by(resolver: URLResolver, language: str | None) -> Reversed:
    """Return the cache of a resolver for a language: a new one if its patterns were read again."""
    kept: dict[str | None, Reversed] = vars(resolver).setdefault(MADE, {})
    known = kept.get(language)
    if known is None or known.patterns is not resolver._reverse_dict.get(language):
        known = kept[language] = Reversed(resolver.reverse_dict)
    return known


def _is_djangos(converter: Converter) -> bool:
    return type(converter).to_url.__module__ == "django.urls.converters"


def reverse_with_prefix(upstream: Callable[..., str]) -> Callable[..., str]:
    """`URLResolver._reverse_with_prefix`: look into the cache first.

    Only URLs of names with plain arguments are cached.
    """

    @functools.wraps(upstream)
    def _reverse_with_prefix(
        self: URLResolver, lookup_view: object, _prefix: str, *args: Any, **kwargs: Any
    ) -> str:
        key = key_of(lookup_view, _prefix, args, kwargs)
        if key is None:
            return upstream(self, lookup_view, _prefix, *args, **kwargs)
        known = reversed_by(self, get_language())
        url = known.find(key)
        if url is None:
            url = upstream(self, lookup_view, _prefix, *args, **kwargs)
            known.keep(key, url)
        return url

    return _reverse_with_prefix
