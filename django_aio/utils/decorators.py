"""View decorators made from middleware, such as `cache_page()`, on coroutine views.

Stock Django calls the middleware's hooks from the coroutine, where they may not wait: a database
cache raises SynchronousOnlyOperation, and Redis stops the loop. Here the whole decorated view runs
as a synchronous one inside the bridge, and only the coroutine in its middle is awaited. If the
policy does not trust the middleware, its hooks run in a thread.

The same holds for `method_decorator()` on the `dispatch()` of a class-based view with asynchronous
handlers, which returns a coroutine without being a coroutine function. Decorators of synchronous
views are Django's. (Django documentation, "The per-view cache".)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from asgiref.sync import (
    async_to_sync,
    iscoroutinefunction,
    markcoroutinefunction,
    sync_to_async,
)
from django import views

from django_aio.bridge import in_bridge, run, wait
from django_aio.policy import is_cooperative
from django_aio.views.generic.base import done_when_called

View = Callable[..., Any]
Decorator = Callable[[View], View]


def make_middleware_decorator(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`make_middleware_decorator()`: the hooks may wait if the view is a coroutine function."""

    @functools.wraps(upstream)
    def make_middleware_decorator(middleware_class: type) -> Callable[..., Decorator]:
        make_decorator = upstream(middleware_class)

        def _make_decorator(*args: Any, **kwargs: Any) -> Decorator:
            decorate = make_decorator(*args, **kwargs)

            def _decorator(view: View) -> View:
                if not _is_asynchronous(view):
                    return decorate(view)  # type: ignore[no-any-return]
                return _asynchronous(view, decorate(_synchronous(view)), middleware_class)

            return _decorator

        return _make_decorator

    return make_middleware_decorator


def multi_decorate(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`method_decorator()`: a synchronous decorator encloses the whole run of a coroutine handler.

    Django marks the decorated method as a coroutine function, whatever the decorator is. In stock
    Django `with transaction.atomic():` in such a decorator would commit before the handler has
    begun. A class-based view calls the method inside the bridge, where the decorator can wait for
    the handler.
    """

    @functools.wraps(upstream)
    def _multi_decorate(
        decorators: Decorator | Iterable[Decorator], method: Callable[..., Any]
    ) -> Callable[..., Any]:
        return upstream(decorators, _done_in_views(method))  # type: ignore[no-any-return]

    return _multi_decorate


def _done_in_views(method: Callable[..., Any]) -> Callable[..., Any]:
    if not iscoroutinefunction(method):
        return method
    done = done_when_called(method)

    @functools.wraps(method)
    def call(self: object, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return (done if isinstance(self, views.View) else method)(self, *args, **kwargs)

    return markcoroutinefunction(call)


def _is_asynchronous(view: View) -> bool:
    if iscoroutinefunction(view):
        return True
    # method_decorator() decorates a partial of the bound method of a class-based view.
    method = view.func if isinstance(view, functools.partial) else view
    asynchronous = getattr(getattr(method, "__self__", None), "view_is_async", False)
    return bool(asynchronous) and getattr(view, "__name__", "") == "dispatch"


def _synchronous(view: View) -> View:
    """Return the view as a function that the middleware may call, on the loop or in a thread."""

    @functools.wraps(view, updated=())  # without the mark of a coroutine function
    def call(*args: Any, **kwargs: Any) -> Any:
        answer = view(*args, **kwargs)
        if not inspect.isawaitable(answer):  # a mixin's dispatch() that redirects
            return answer
        return wait(answer) if in_bridge() else async_to_sync(_await)(answer)

    return call


async def _await(answer: Awaitable[Any]) -> Any:
    return await answer


def _asynchronous(view: View, decorated: View, middleware_class: type) -> View:
    """Return a coroutine function that runs the synchronous `decorated` where the policy says."""

    @functools.wraps(view)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if is_cooperative(middleware_class):
            return await run(decorated, *args, **kwargs)
        return await sync_to_async(decorated)(*args, **kwargs)

    return call
