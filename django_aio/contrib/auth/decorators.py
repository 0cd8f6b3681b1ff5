"""`user_passes_test`: the answer of the test is awaited, whatever kind of function gave it.

Django awaits a test that is a coroutine function. One that merely returns a coroutine, such as
`lambda user: user.ahas_perm("polls.vote")`, would pass everybody. Either may look at a user that
has not been loaded from the database yet.

Called where views are decorated; the tests are called with each request.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.contrib.auth.answers import settle
from django_aio.parts import name_of


def user_passes_test(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`user_passes_test()`: a test that returns something to await is waited for."""

    @functools.wraps(upstream)
    def user_passes_test(test_func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return upstream(_settled(test_func), *args, **kwargs)

    return user_passes_test


def _settled(test_func: Callable[..., Any]) -> Callable[..., Any]:
    """The test as a plain function, which has waited for the answer."""

    @functools.wraps(test_func, updated=())  # it is not a coroutine function, even if that is one
    def test(*args: Any, **kwargs: Any) -> Any:
        return settle(test_func(*args, **kwargs), f"The test {name_of(test_func)}")

    return test
