"""The middleware chain of an asynchronous handler: Django's synchronous one, in one greenlet.

A handler that asks for an asynchronous chain of middleware gets the synchronous one, run inside the
bridge. Middleware, views and exception handlers that are coroutine functions are awaited from it;
synchronous ones run on the loop or in a thread as the policy says. In handlers that ask for a
synchronous chain (WSGI) only ATOMIC_REQUESTS on coroutine views is new.

Called by the thread that makes the handler, and per request by the loop's.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import FunctionType
from typing import TYPE_CHECKING, Any

from asgiref.sync import AsyncToSync, async_to_sync, iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.utils.deprecation import MiddlewareMixin

from django_aio.bridge import in_bridge, run, wait
from django_aio.db import sessions
from django_aio.policy import in_thread, is_cooperative

if TYPE_CHECKING:
    from django.core.handlers import base

    class BaseHandler(base.BaseHandler):
        """Django's class, with what its stub does not have and what is noted here."""

        _aio_bridged: bool
        _middleware_chain: Callback
        _template_response_middleware: list[Callback]

    class Response(HttpResponseBase):
        """A response that may have to be rendered."""

        render: Callback


Callback = Callable[..., Any]

logger = logging.getLogger("django.request")

# Whether the chain being loaded is one that runs inside the bridge.
_loading: ContextVar[bool] = ContextVar("django_aio_loading", default=False)


def load_middleware(upstream: Callback) -> Callback:
    """`BaseHandler.load_middleware`: the synchronous chain, inside the bridge if asynchronous."""

    @functools.wraps(upstream)
    def load_middleware(self: BaseHandler, is_async: bool = False) -> None:
        self._aio_bridged = is_async
        token = _loading.set(is_async)
        try:
            upstream(self, is_async=False)
        finally:
            _loading.reset(token)
        if is_async:
            # What Django's get_response_async() awaits: the whole chain in one greenlet.
            self._middleware_chain = as_coroutine(self._middleware_chain)

    return load_middleware


def is_bridged(handler: object) -> bool:
    """Whether the handler's chain runs inside the bridge."""
    return getattr(handler, "_aio_bridged", False)


def adapt_method_mode(upstream: Callback) -> Callback:
    """`BaseHandler.adapt_method_mode`: adapt synchronous and coroutine functions by the bridge."""

    @functools.wraps(upstream)
    def adapt_method_mode(
        self: BaseHandler,
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
        if own and not is_cooperative(method):
            return in_thread(method, "middleware method")
        return method

    return adapt_method_mode


def make_view_atomic(upstream: Callback) -> Callback:
    """`BaseHandler.make_view_atomic`: the view as a function that bridged code can call.

    A coroutine view is awaited inside its transaction, under WSGI too. A synchronous view goes,
    transaction and all, to a thread unless the policy trusts it on the loop.
    """

    @functools.wraps(upstream)
    def make_view_atomic(self: BaseHandler, view: Callback) -> Callback:
        if not is_bridged(self):
            return _atomic_in_thread(self, view)
        if iscoroutinefunction(view):
            # Most views are plain functions, of which a site has a limited number.
            adapt = _sync_view if isinstance(view, FunctionType) else as_sync
            return upstream(self, adapt(view))  # type: ignore[no-any-return]
        atomic = upstream(self, view)
        if is_cooperative(view):
            return atomic  # type: ignore[no-any-return]
        # Nothing happens between the view and the rendering, so one call in the thread does both.
        whole = atomic if self._template_response_middleware else _rendering(atomic)
        return in_thread(whole, "view", of=view)

    def _atomic_in_thread(self: BaseHandler, view: Callback) -> Callback:
        try:
            return upstream(self, view)  # type: ignore[no-any-return]
        except RuntimeError:
            if not iscoroutinefunction(view):
                raise
        # Django refuses a coroutine view with ATOMIC_REQUESTS. Here the coroutine is in the
        # thread's transaction, so there is nothing to refuse.
        return upstream(self, as_sync(view))  # type: ignore[no-any-return]

    return make_view_atomic


def adapt_view(view: Callback, kind: str) -> Callback:
    """Return a view that Django itself calls (an error handler) as a synchronous function.

    Inside the bridge the view runs where the policy says; a coroutine function is awaited.
    """
    if iscoroutinefunction(view):
        return as_sync(view)
    if not in_bridge() or is_cooperative(view):
        return view
    return in_thread(_rendering(view), kind, of=view)


def _rendering(view: Callback) -> Callback:
    """Return the view, followed by the rendering of its response if that was deferred."""

    @functools.wraps(view)
    def call(*args: Any, **kwargs: Any) -> Any:
        response = view(*args, **kwargs)
        return response.render() if isinstance(response, SimpleTemplateResponse) else response

    return call


def check_response(upstream: Callback) -> Callback:
    """`BaseHandler.check_response`: the response is rendered where the policy says.

    Django checks every response before it renders it, whoever made it. A `render()` that is a
    coroutine function is awaited.
    """

    @functools.wraps(upstream)
    def check_response(
        self: BaseHandler, response: Response, callback: Callback, name: str | None = None
    ) -> None:
        upstream(self, response, callback, name)
        if not is_bridged(self):
            return
        render = getattr(response, "render", None)
        if render is None or isinstance(render, _Render):
            return
        if iscoroutinefunction(render):
            response.render = _Render(response, as_sync(render))
        elif not getattr(response, "is_rendered", False):
            # A response that a view has not rendered is still the view's code. (`name` is set if
            # a middleware returned the response.)
            whose: list[Any] = [type(response), *_callbacks(response)]
            if not all(map(is_cooperative, whose if name else [*whose, callback])):
                response.render = _Render(response, in_thread(render, "response"))

    return check_response


def _callbacks(response: HttpResponseBase) -> list[Callback]:
    """The functions that a template response calls once it has been rendered."""
    return getattr(response, "_post_render_callbacks", [])


class _Render:
    """A response's adapted `render()`. It removes itself: responses that are cached are pickled."""

    def __init__(self, response: Response, render: Callback) -> None:
        self._response = response
        self._render = render

    def __call__(self) -> Any:
        del self._response.render
        return self._render()


def as_sync(func: Callable[..., Awaitable[Any]]) -> Callback:
    """Return `func` as a synchronous function, which waits for it in the bridge or in a thread."""

    # Without the __dict__, which in a class-based view's function says that it is a coroutine
    # function; this one is not.
    @functools.wraps(func, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        if not in_bridge():
            return OfARequest(func)(*args, **kwargs)
        answer: Any = func(*args, **kwargs)
        # A class-based view that a project has marked as a coroutine function may be done already.
        return wait(answer) if inspect.isawaitable(answer) else answer

    # Django reads these of a view, and of a middleware's method for its error messages.
    for name in ("_non_atomic_requests", "__self__"):
        value = getattr(func, name, None)
        if value is not None:
            setattr(call, name, value)
    return call


class OfARequest(AsyncToSync[..., Any]):
    """`async_to_sync()` in a thread that serves a request: the coroutine's tasks share connections.

    They use those of the thread.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the coroutine function, and wait for what it returns."""
        token = sessions.of_a_request.set(True)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            sessions.of_a_request.reset(token)


@functools.lru_cache(maxsize=1024)
def _sync_view(view: Callback) -> Callback:
    """Call `as_sync()` once for each view rather than once for each request."""
    return as_sync(view)


def as_coroutine(func: Callback) -> Callable[..., Awaitable[Any]]:
    """Return a coroutine function that runs the synchronous `func` inside the bridge."""

    @functools.wraps(func, updated=())
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await run(func, *args, **kwargs)

    return call


def import_middleware(upstream: Callable[[str], Any]) -> Callable[[str], Any]:
    """`import_string` where middleware is loaded: adapt the factory as the policy says.

    A middleware that has an async form of its own is used in that form, as in stock Django; the one
    that MiddlewareMixin gives only calls the synchronous form. A middleware without its own runs on
    the loop if the policy trusts it there, else in a thread. The views below it stay on the loop
    either way.
    """

    @functools.wraps(upstream)
    def import_string(path: str) -> Any:
        factory = upstream(path)
        return _by_policy(factory, path) if _loading.get() else factory

    return import_string


def _by_policy(factory: Callback, path: str) -> Any:
    asynchronous = getattr(factory, "async_capable", False)
    if is_cooperative(factory) and (is_mixed_in(factory) or not asynchronous):
        return factory
    if asynchronous:
        return _AsynchronousOnly(factory)
    return _Threaded(factory, path) if getattr(factory, "sync_capable", True) else factory


def is_mixed_in(factory: object) -> bool:
    """Whether the async form of a middleware is MiddlewareMixin's."""
    return getattr(factory, "__acall__", None) is MiddlewareMixin.__acall__


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

    def __init__(self, factory: Callback, path: str) -> None:
        self.factory = factory
        self.path = path

    def __call__(self, get_response: Callback) -> Any:
        if settings.DEBUG:
            logger.debug("Asynchronous handler adapted for middleware %s.", self.path)
        # convert_exception_to_response() has wrapped the middleware below.
        if not isinstance(getattr(get_response, "__wrapped__", None), _ThreadedMiddleware):
            get_response = async_to_sync(as_coroutine(get_response))
        # Else it runs in the same thread: a row of such middleware costs one call in a thread.
        middleware = self.factory(get_response)
        return None if middleware is None else _ThreadedMiddleware(middleware, self.factory)


class _ThreadedMiddleware:
    """A middleware that runs in a thread. Django adapts its other hooks one by one."""

    def __init__(self, middleware: Callback, factory: Callback) -> None:
        self._middleware = middleware
        self._call = in_thread(middleware, "middleware", of=factory)

    def __call__(self, request: HttpRequest) -> Any:
        return self._call(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._middleware, name)
