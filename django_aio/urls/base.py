"""`reverse()`: the namespaces of a name are looked through once.

A page has dozens of links, and each of them begins with a walk through the namespaces of its name,
which leads to a resolver. The URLs that resolvers have made are kept by them, see
`django_aio.urls.resolvers`, where it is also said how long.

(Django documentation, "Reversing namespaced URLs".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.urls import base, get_resolver
from django.utils.translation import get_language

from django_aio.urls.resolvers import MAX_MADE, Ours, Way, key_of, last, reversed_by
from django_aio.utils.html import TEXT
from django_aio.utils.kept import keep

# What the current application may be. A name in a template is mostly a literal, which is safe text.
APPS = TEXT | {type(None)}


@functools.cache
def reverse(upstream: Callable[..., str]) -> Callable[..., str]:
    """`reverse()`, one for all modules: where a name leads to is known after the first time.

    It depends on the URLconf, the active language and the current application.
    """

    @functools.wraps(upstream)
    def reverse(
        viewname: Any,
        urlconf: Any = None,
        args: Any = None,
        kwargs: Any = None,
        current_app: Any = None,
        *,
        query: Any = None,
        fragment: Any = None,
    ) -> str:
        if (
            type(viewname) not in TEXT
            or type(current_app) not in APPS
            or query is not None
            or fragment is not None
        ):
            return upstream(
                viewname, urlconf, args, kwargs, current_app, query=query, fragment=fragment
            )
        language = get_language()
        root = get_resolver(base.get_urlconf() if urlconf is None else urlconf)
        # Its patterns are read by upstream, which has answers of its own while they are.
        known = reversed_by(root, language) if language in root._reverse_dict else None
        way = None if known is None else known.ways.get((viewname, current_app))
        if way is not None:
            return _follow(way, base.get_script_prefix(), args, kwargs)
        last.answer = None
        url = upstream(viewname, urlconf, args, kwargs, current_app)
        # Another package may answer in the resolver's place, or ask for more URLs meanwhile.
        if last.answer is not None and last.answer[1] is url:
            resolver = last.answer[0]
            way = Way(resolver, reversed_by(resolver, language), viewname.split(":")[-1])
            keep(reversed_by(root, language).ways, (viewname, current_app), way, MAX_MADE)
        return url

    return reverse


def _follow(way: Way, prefix: str, args: Any, kwargs: Any) -> str:
    """The URL that the resolver makes, or has made, if nobody else has a say in it."""
    make: Callable[..., str] = type(way.resolver)._reverse_with_prefix  # type: ignore[attr-defined]
    args, kwargs = tuple(args or ()), kwargs or {}
    key = key_of(way.name, prefix, args, kwargs) if make is Ours.reverse_with_prefix else None
    url = None if key is None else way.known.find(key)
    return url if url is not None else make(way.resolver, way.name, prefix, *args, **kwargs)
