"""`request.user` and `await request.auser()` are one user, looked up once.

Django caches the two separately, so that a view that awaits `auser()` and a template that uses
`user` query the database twice. Here they are one user for as long as the session is that user's.
(Django documentation, "Authentication in web requests".)

Called by the task of the request, or by a thread that is its guest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest

# The attributes in which Django keeps what each of the two found.
FOUND, AWAITED = "_cached_user", "_acached_user"


def get_user(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`get_user`, behind `request.user`: return the user that has already been awaited."""

    @functools.wraps(upstream)
    def get_user(request: HttpRequest) -> Any:
        _share(request, AWAITED, FOUND)
        return upstream(request)

    return get_user


def auser(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`auser`, behind `request.auser`: return the user that `request.user` has already found."""

    @functools.wraps(upstream)
    async def auser(request: HttpRequest) -> Any:
        _share(request, FOUND, AWAITED)
        return await upstream(request)

    return auser


def _share(request: HttpRequest, found: str, missing: str) -> None:
    state = vars(request)
    if missing not in state and found in state and _is_of_session(request, state[found]):
        state[missing] = state[found]


def _is_of_session(request: HttpRequest, user: Any) -> bool:
    """Whether the session is still that of a user who was found before. Does not query."""
    known = getattr(getattr(request, "session", None), "_session_cache", None)
    if known is None:
        return False  # the session has not been read, or its engine does not tell
    is_user = bool(getattr(user, "is_authenticated", False)) and hasattr(user, "_meta")
    key = user._meta.pk.value_to_string(user) if is_user else None
    return bool(known.get(SESSION_KEY) == key)


def changes_user(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`login()` and `logout()`: `request.auser()` returns the new user too.

    Before 6.1 Django updates only `request.user`, so that the other one returns the old user.
    """

    @functools.wraps(upstream)
    def change(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        result = upstream(request, *args, **kwargs)
        _agree(request)
        return result

    return change


def achanges_user(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`alogin()` and `alogout()`: `request.user` and `request.auser()` return the new user."""

    @functools.wraps(upstream)
    async def change(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        result = await upstream(request, *args, **kwargs)
        _agree(request)
        return result

    return change


def _agree(request: HttpRequest) -> None:
    """Have both spellings return the user that Django has set as `request.user`."""
    if not (hasattr(request, "user") and hasattr(request, "auser")):
        return
    user = request.user

    async def auser() -> Any:
        return user

    request.auser = auser
    vars(request).update({FOUND: user, AWAITED: user})
