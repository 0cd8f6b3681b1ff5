"""`reverse()`: a URL whose name and arguments were asked for before is answered by one look.

A page has dozens of links, and each of them begins with a walk through the namespaces of its name.
What is kept, and for how long, is said in `django_aio.urls.resolvers`.

(Django documentation, "django.urls utility functions".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.urls import base, get_resolver
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from django_aio.urls.resolvers import PLAIN, last, reversed_by

# What a name may be: in templates it is mostly a literal, which is safe.
NAMES = frozenset({str, SafeString})
APPS = NAMES | {type(None)}
ARGS = frozenset({list, tuple, type(None)})
KWARGS = frozenset({dict, type(None)})


@functools.cache
def reverse(upstream: Callable[..., str]) -> Callable[..., str]:
    """`reverse()`, one for all modules: what it answered is answered again, if nothing has changed.

    That is the URLconf, the script prefix, the active language, the current application, and
    arguments of plain types. A converter of a project's is asked every time.
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
            type(viewname) not in NAMES
            or type(current_app) not in APPS
            or type(args) not in ARGS
            or type(kwargs) not in KWARGS
            or (args and not PLAIN.issuperset(map(type, args)))
            or (kwargs and not PLAIN.issuperset(map(type, kwargs.values())))
            or query is not None
            or fragment is not None
        ):
            return upstream(
                viewname, urlconf, args, kwargs, current_app, query=query, fragment=fragment
            )
        resolver = get_resolver(base.get_urlconf() if urlconf is None else urlconf)
        known = reversed_by(resolver, get_language())
        key = (
            viewname,
            current_app,
            base.get_script_prefix(),
            tuple(args) if args else (),
            tuple(kwargs.items()) if kwargs else (),
        )
        made = known.find(key)
        if made is not None:
            return made.url
        last.made = None
        url = upstream(viewname, urlconf, args, kwargs, current_app)
        made = last.made
        if made is not None and made.url == url:
            known.add(key, made)
        return url

    return reverse
