"""Access to views: the result of a test or permission method is awaited before Django uses it.

A coroutine is true. A test that returns one, such as `lambda user: user.ahas_perm("polls.vote")` or
an `async def test_func()` in a view class, would let everybody in. The coroutine may use a
`request.user` that has not been loaded yet.

Called where views are decorated; the tests are called with each request, by the thread that serves
it. (Django documentation, "Limiting access to logged-in users that pass a test".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_aio.awaiting import await_value
from django_aio.policy.parts import name_of

if TYPE_CHECKING:
    from django.contrib.auth.mixins import PermissionRequiredMixin, UserPassesTestMixin
    from django.http import HttpRequest

Dispatch = Callable[..., Any]


def refusal(name: str) -> str:
    """The message of the error of a test `name` that a coroutine called directly."""
    return (
        f"{name} returned a coroutine, which cannot be awaited here: a coroutine called the view "
        "directly. Call the view with 'await run(view, request)', or let it have asynchronous "
        f"handlers and await it, or make {name} a plain function."
    )


def user_passes_test(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`user_passes_test()`: await the result of the test, whatever kind of function it is."""

    @functools.wraps(upstream)
    def user_passes_test(test_func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return upstream(_awaited(test_func), *args, **kwargs)

    return user_passes_test


def _awaited(test_func: Callable[..., Any]) -> Callable[..., Any]:
    """Return the test as a plain function, which waits for the result."""

    @functools.wraps(test_func, updated=())  # without the mark of a coroutine function
    def test(*args: Any, **kwargs: Any) -> Any:
        return await_value(test_func(*args, **kwargs), refusal(f"The test {name_of(test_func)}"))

    return test


def dispatch_if_passed(upstream: Dispatch) -> Dispatch:
    """`UserPassesTestMixin.dispatch`: await the result of `test_func()`.

    Upstream gets the test by `get_test_func()` of the view object, which serves this request only,
    so the object has another `get_test_func()` for the time of the call.
    """

    @functools.wraps(upstream)
    def dispatch(self: UserPassesTestMixin, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        get_test_func = self.get_test_func

        def get_awaited() -> Callable[[], Any]:
            test_func = get_test_func()
            message = refusal(f"{type(self).__qualname__}.test_func()")
            return lambda: await_value(test_func(), message)

        self.get_test_func = get_awaited  # type: ignore[method-assign]
        try:
            return upstream(self, request, *args, **kwargs)
        finally:
            del self.get_test_func

    return dispatch


def dispatch_if_permitted(upstream: Dispatch) -> Dispatch:
    """`PermissionRequiredMixin.dispatch`: await the result of `has_permission()`."""

    @functools.wraps(upstream)
    def dispatch(
        self: PermissionRequiredMixin, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> Any:
        has_permission = self.has_permission
        message = refusal(f"{type(self).__qualname__}.has_permission()")
        self.has_permission = (  # type: ignore[method-assign]
            lambda: await_value(has_permission(), message)
        )
        try:
            return upstream(self, request, *args, **kwargs)
        finally:
            del self.has_permission

    return dispatch
