"""The storage of a request's messages, made when somebody looks for messages.

`MessageMiddleware` makes one for each request, of which the default consists of three objects and a
signer of cookies, and most pages show none and leave none. A storage that nobody has looked at has
nothing to store either.

Used by who uses the request. (Django documentation, "The messages framework".)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.messages.storage.fallback import FallbackStorage
from django.contrib.messages.storage.session import SessionStorage
from django.utils.module_loading import import_string

# Django's own, and whether a request without a session is an error for them.
NEEDS_SESSION = {CookieStorage: False, SessionStorage: True, FallbackStorage: True}


def default_storage(request: Any) -> Any:
    """Stands in for `default_storage()` in the middleware: Django's storages are made later.

    Raises ImproperlyConfigured, as the storage itself, if it needs a session and there is none.
    """
    kind = import_string(settings.MESSAGE_STORAGE)
    if kind not in NEEDS_SESSION or (NEEDS_SESSION[kind] and not hasattr(request, "session")):
        return kind(request)
    return Later(kind, request)


class Later:
    """A storage of messages that is made at the first look at it."""

    __slots__ = ("_kind", "_made", "_request")

    def __init__(self, kind: Any, request: Any) -> None:
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_request", request)
        object.__setattr__(self, "_made", None)

    def update(self, response: Any) -> Any:
        """Store what is to be stored: nothing, if nobody has looked."""
        return [] if self._made is None else self._made.update(response)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._kind

    def __getattr__(self, name: str) -> Any:
        return getattr(_made(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_made(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_made(self), name)

    def __len__(self) -> int:
        return len(_made(self))

    def __iter__(self) -> Iterator[Any]:
        return iter(_made(self))

    def __contains__(self, item: object) -> bool:
        return item in _made(self)

    def __repr__(self) -> str:
        return repr(_made(self))


def _made(later: Later) -> Any:
    if later._made is None:
        object.__setattr__(later, "_made", later._kind(later._request))
    return later._made
