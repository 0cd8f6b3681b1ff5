"""Caches and session engines of projects and third parties whose methods run in a thread.

- `django_aio.I006`: a cache of `settings.CACHES`.
- `django_aio.I007`: the engine that `settings.SESSION_ENGINE` names.

Only `manage.py check` reports them. Those marked `@blocking` are not reported, nor are Django's
file-based cache and session engine, which use a thread because there is no other way.
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
    """Report the caches whose methods run in a thread, and which of their methods do not."""
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
    """Name the coroutine functions that the class itself has in place of Django's."""
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
    """Report a session engine that uses a thread."""
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
