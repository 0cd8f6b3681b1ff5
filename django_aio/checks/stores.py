"""Caches and session engines of a project's or third party's, whose methods go to a thread.

- `django_aio.I006`: a cache of `settings.CACHES`.
- `django_aio.I007`: the engine that `settings.SESSION_ENGINE` names.

Only `manage.py check` reports them. What is marked `@blocking` is not reported, nor that Django's
own file-based cache and engine read and write their files in a thread: there is no other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.apps import AppConfig
from django.conf import settings
from django.core.cache import BaseCache
from django.core.checks import CheckMessage, Info

from django_aio.checks.texts import imported, joined, remedy
from django_aio.core.management.commands.check import when_asked
from django_aio.policy import obstacle


def check_caches(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the caches whose methods go to a thread, and what does not."""
    return [
        Info(
            f"The cache {alias!r} ({path}) uses a thread for every call{_but(backend)}: {why}.",
            hint=remedy(why.module, "give it awaitable methods of its own (aget(), aset(), ...)"),
            obj=f"CACHES[{alias!r}]",
            id="django_aio.I006",
        )
        for alias, entry in settings.CACHES.items()
        for path, backend in imported([entry.get("BACKEND", "")])
        if isinstance(backend, type) and (why := obstacle(backend)) and not why.marked
    ]


def _but(backend: type) -> str:
    """The awaitable methods that the class does not have from Django."""
    own = [
        f"{name}()"
        for name, inherited in vars(BaseCache).items()
        if name.startswith("a") and iscoroutinefunction(inherited)
        if (method := getattr(backend, name, None)) is not inherited
        if iscoroutinefunction(method)
    ]
    return f" but {joined(own)}" if own else ""


def check_session_engine(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Report a session engine that goes to a thread."""
    return [
        Info(
            f"The session engine {settings.SESSION_ENGINE!r} uses a thread to load, save and "
            f"delete a session: {why}.",
            hint=remedy(why.module, "use one of Django's engines"),
            obj="SESSION_ENGINE",
            id="django_aio.I007",
        )
        for _, store in imported([f"{settings.SESSION_ENGINE}.SessionStore"])
        if isinstance(store, type) and (why := obstacle(store)) and not why.marked
    ]


CHECKS = tuple(map(when_asked, (check_caches, check_session_engine)))
