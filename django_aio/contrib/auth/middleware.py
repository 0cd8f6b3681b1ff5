"""`request.user` and `await request.auser()` are one user, looked up once.

Django remembers the two apart, so that a view that awaits the one and a template that uses the
other ask the database twice. (Django documentation, "Authentication in web requests".)

Called by the task of the request, or a thread that is its guest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

# Where Django keeps what each of the two found.
FOUND, AWAITED = "_cached_user", "_acached_user"


def get_user(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What `request.user` calls: what has been awaited already is it."""

    @functools.wraps(upstream)
    def get_user(request: Any) -> Any:
        _share(request, AWAITED, FOUND)
        return upstream(request)

    return get_user


def auser(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What `request.auser` calls: what `request.user` has found already is it."""

    @functools.wraps(upstream)
    async def auser(request: Any) -> Any:
        _share(request, FOUND, AWAITED)
        return await upstream(request)

    return auser


def _share(request: Any, found: str, missing: str) -> None:
    state = vars(request)
    if missing not in state and found in state:
        state[missing] = state[found]
