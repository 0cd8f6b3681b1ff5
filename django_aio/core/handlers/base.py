"""The middleware chain of an asynchronous handler: Django's synchronous one, in one greenlet.

A handler that asks for an asynchronous chain gets the synchronous chain, run inside the bridge.
Middleware, views and exception handlers that are coroutine functions are awaited from it; those
that are synchronous run on the loop or in a thread as the policy says. Handlers that ask for a
synchronous chain (WSGI) are unchanged.

Called by the thread that makes the handler, and per request by the loop's.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import FunctionType
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.utils.module_loading import import_string

from django_aio.bridge import run, wait
from django_aio.policy import in_thread, is_cooperative

Callback = Callable[..., Any]

# Whether the chain being loaded is one that runs inside the bridge.
_loading: ContextVar[bool] = ContextVar("django_aio_loading", default=False)


def load_middleware(upstream: Callback) -> Callback:
    """`BaseHandler.load_middleware`: the synchronous chain, inside the bridge if asynchronous."""

    @functools.wraps(upstream)
    def load_middleware(self: Any, is_async: bool = False) -> None:
        self._aio_bridged = is_async
        token = _loading.set(is_async)
        try:
            upstream(self, is_async=False)
        finally:
            _loading.reset(token)

    return load_middleware


def get_response_async(upstream: Callback) -> Callback:
    """`BaseHandler.get_response_async`: the whole chain in one greenlet."""

    @functools.wraps(upstream)
    async def get_response_async(self: Any, request: Any) -> Any:
        if is_bridged(self):
            return await run(self.get_response, request)
        return await upstream(self, request)

    return get_response_async


def is_bridged(handler: Any) -> bool:
    """Whether the handler's chain runs inside the bridge."""
    return getattr(handler, "_aio_bridged", False)


def adapt_method_mode(upstream: Callback) -> Callback:
    """`BaseHandler.adapt_method_mode`: cross from one colour to the other by the bridge."""

    @functools.wraps(upstream)
    def adapt_method_mode(
        self: Any,
        is_async: bool,
        method: Callback,
        method_is_async: bool | None = None,
        debug: bool = False,
        name: str | None = None,
    ) -> Callback:
        if not is_bridged(self):
            adapted: Callback = upstream(self, is_async, method, method_is_async, debug, name)
            return adapted
        own = method_is_async is None  # a method of a middleware, not the chain below it
        if own:
            method_is_async = iscoroutinefunction(method)
        if is_async:
            return method if method_is_async else as_coroutine(method)
        if method_is_async:
            return as_sync(method)
        return in_thread(method) if own and not is_cooperative(method) else method

    return adapt_method_mode


def make_view_atomic(upstream: Callback) -> Callback:
    """`BaseHandler.make_view_atomic`: the view as a function that bridged code can call.

    A coroutine view is awaited inside its transaction. A synchronous view goes, transaction and
    all, to a thread unless the policy trusts it on the loop.
    """

    @functools.wraps(upstream)
    def make_view_atomic(self: Any, view: Callback) -> Callback:
        if not is_bridged(self):
            return upstream(self, view)  # type: ignore[no-any-return]
        if iscoroutinefunction(view):
            # Most views are plain functions, of which a site has a limited number.
            adapt = _sync_view if isinstance(view, FunctionType) else as_sync
            return upstream(self, adapt(view))  # type: ignore[no-any-return]
        atomic = upstream(self, view)
        return atomic if is_cooperative(view) else in_thread(atomic)

    return make_view_atomic


def as_sync(func: Callable[..., Awaitable[Any]]) -> Callback:
    """A synchronous function, for bridged code, that waits for the coroutine function `func`."""

    # Not everything that wraps() copies: a class-based view's function says in its __dict__ that it
    # is a coroutine function, and this one is not.
    @functools.wraps(func, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        return wait(func(*args, **kwargs))

    exempt = getattr(func, "_non_atomic_requests", None)
    if exempt is not None:
        call._non_atomic_requests = exempt  # type: ignore[attr-defined]
    return call


@functools.lru_cache(maxsize=1024)
def _sync_view(view: Callback) -> Callback:
    """`as_sync()`, once for each view rather than once for each request."""
    return as_sync(view)


def as_coroutine(func: Callback) -> Callable[..., Awaitable[Any]]:
    """A coroutine function that runs the synchronous `func` inside the bridge."""

    @functools.wraps(func, updated=())
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await run(func, *args, **kwargs)

    return call


def import_middleware(path: str) -> Any:
    """Stands in for `import_string` where middleware is loaded: the factory, as the policy says.

    A middleware that may not run synchronously on the loop is used in its asynchronous form if it
    has one, else in a thread. The views below it stay on the loop either way.
    """
    factory = import_string(path)
    if not _loading.get() or is_cooperative(factory):
        return factory
    if getattr(factory, "async_capable", False):
        return _AsynchronousOnly(factory)
    return _Threaded(factory)


class _AsynchronousOnly:
    """A middleware factory whose synchronous form is not used. Made while the chain is loaded."""

    sync_capable = False
    async_capable = True

    def __init__(self, factory: Callback) -> None:
        self.factory = factory

    def __call__(self, get_response: Callback) -> Any:
        return self.factory(get_response)


class _Threaded:
    """A middleware factory whose middleware runs in a thread. Made while the chain is loaded."""

    sync_capable = True
    async_capable = False

    def __init__(self, factory: Callback) -> None:
        self.factory = factory

    def __call__(self, get_response: Callback) -> Any:
        middleware = self.factory(async_to_sync(as_coroutine(get_response)))
        return None if middleware is None else _ThreadedMiddleware(middleware)


class _ThreadedMiddleware:
    """A middleware that runs in a thread; its other hooks are adapted one by one."""

    def __init__(self, middleware: Callback) -> None:
        self._middleware = middleware
        self._call = in_thread(middleware)

    def __call__(self, request: Any) -> Any:
        return self._call(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._middleware, name)
