"""The access mixins: `test_func()` and `has_permission()` may be coroutine functions.

What they answer is awaited before it is looked at. Without us a coroutine passes for a yes.

A view object serves one request; nothing else touches it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.contrib.auth.answers import settle

Dispatch = Callable[..., Any]


def dispatch_if_passed(upstream: Dispatch) -> Dispatch:
    """`UserPassesTestMixin.dispatch`: the test's answer is awaited."""

    @functools.wraps(upstream)
    def dispatch(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        get_test_func = self.get_test_func

        def settled() -> Callable[[], Any]:
            test_func = get_test_func()
            name = f"{type(self).__qualname__}.test_func()"
            return lambda: settle(test_func(), name)

        self.get_test_func = settled
        try:
            return upstream(self, request, *args, **kwargs)
        finally:
            del self.get_test_func

    return dispatch


def dispatch_if_permitted(upstream: Dispatch) -> Dispatch:
    """`PermissionRequiredMixin.dispatch`: the answer of `has_permission()` is awaited."""

    @functools.wraps(upstream)
    def dispatch(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        has_permission = self.has_permission
        name = f"{type(self).__qualname__}.has_permission()"
        self.has_permission = lambda: settle(has_permission(), name)
        try:
            return upstream(self, request, *args, **kwargs)
        finally:
            del self.has_permission

    return dispatch
