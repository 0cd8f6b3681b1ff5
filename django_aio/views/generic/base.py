"""Class-based views: `async def` in the place of any method, and asynchronous handlers.

Every view of a project or third party that derives from `View` may override any method by a
coroutine function (`get_queryset()`, `form_valid()`, `dispatch()`, `setup()`, the methods that the
access mixins call): see `hooks.py`. Mixins need not derive from `View`. Django itself handles
asynchronous handlers (`get()`, `post()`); this module adds two things:

- A class may have asynchronous handlers of its own next to synchronous ones that it inherits from
  Django, such as `UpdateView.get()`. The synchronous ones run where the policy says.
- `dispatch()` is synchronous, and so are most overrides of it: a mixin that looks at
  `request.user`, a decorator that redirects. In a view with asynchronous handlers it runs inside
  the bridge, so that it may wait. Its result is awaited if it is awaitable, else it is the
  response: stock Django awaits it in any case, which fails for a redirect. The handler has finished
  when the call in `dispatch()` returns, so that a transaction or a language that surrounds the call
  also surrounds the handler.

An asynchronous handler runs as a plain coroutine: it calls a synchronous method that queries, or
that leads to a hook, by `await run(self.get_context_data)`.

A view object serves one request. (Django documentation, "Asynchronous class-based views".)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import MethodType
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import classonlymethod
from django.utils.functional import classproperty
from django.views.generic.base import View

from django_aio.bridge import in_bridge, run, wait
from django_aio.conf import is_below
from django_aio.db.blocks import Block, innermost
from django_aio.hooks import adopt, adopting, is_hook
from django_aio.policy import in_thread, is_cooperative
from django_aio.policy.parts import unbound

T = TypeVar("T")

REMEDY = (
    "In a coroutine call that code with 'await run(...)', such as "
    "'await run(self.get_context_data)', and a view without asynchronous handlers with "
    "'await run(view, request)'."
)


def adopt_view(cls: type[View]) -> None:
    """Turn the coroutine functions of a view class that override methods into hooks."""
    # When Django decides whether a view is asynchronous, options() does not count as a handler.
    # as_view() copies the attributes of dispatch() to the view. Without `unmarked` the mark of a
    # coroutine function would be among them, and the view is not one.
    handlers = {*View.http_method_names, *cls.http_method_names} - {"options"}
    adopt(cls, REMEDY, besides=handlers, unmarked=("dispatch",))


# `View.__init_subclass__`: see adopting().
init_subclass = adopting(View, adopt_view)


def as_view(upstream: classmethod[Any, Any, Any]) -> Any:
    """`View.as_view`: make hooks of methods that were decorated after the class was created."""
    make = unbound(upstream)

    @functools.wraps(make)
    def as_view(cls: type[View], /, **initkwargs: Any) -> Callable[..., Any]:
        if not is_below(cls.__module__, ("django",)):
            adopt_view(cls)
        view = make(cls, **initkwargs)
        # A coroutine calls an asynchronous view directly, and there a hook cannot be awaited.
        return _set_up_in_bridge(view) if cls.view_is_async and is_hook(cls.setup) else view

    made: Any = as_view
    return classonlymethod(made)


def _set_up_in_bridge(view: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an asynchronous view whose `setup()` is a hook, so that it is called in the bridge."""

    @functools.wraps(view)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await (await run(view, *args, **kwargs))

    return call


def view_is_async(upstream: Any) -> Any:
    """`View.view_is_async`: synchronous handlers that Django itself defines do not count."""

    def view_is_async(cls: type[View]) -> bool:
        try:
            return upstream.__get__(None, cls)  # type: ignore[no-any-return]
        except ImproperlyConfigured:
            if all(map(iscoroutinefunction, _own_handlers(cls))):
                return True
            raise

    return classproperty(view_is_async)


def _own_handlers(cls: type[View]) -> list[Any]:
    """Return the handlers that are not defined by a class of Django."""
    found = []
    for name in cls.http_method_names:
        definer = next((base for base in cls.__mro__ if name in vars(base)), View)
        if name != "options" and not is_below(definer.__module__, ("django",)):
            found.append(getattr(cls, name))
    return found


def setup(upstream: Callable[..., None]) -> Callable[..., None]:
    """`View.setup`: the view's `dispatch()` returns an awaitable if its handlers do."""

    @functools.wraps(upstream)
    def setup(self: View, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        upstream(self, request, *args, **kwargs)
        if self.view_is_async:
            _place_handler(self, request)
            if _surrounds(type(self)):  # type: ignore[arg-type]
                _place_waiting_handler(self, request)
            self.dispatch = functools.partial(_dispatch, self)  # type: ignore[assignment, method-assign]
        elif is_hook(self.dispatch):
            _place_handler(self, request)

    return setup


def _handler(view: View, request: HttpRequest) -> tuple[str, Any]:
    """Return the name of the handler of a request, and the handler if the view has one."""
    method: Any = request.method
    name = method.lower()
    return name, getattr(view, name, None) if name in view.http_method_names else None


def _place_handler(view: View, request: HttpRequest) -> None:
    """Replace a synchronous handler that the policy does not trust: it runs in a thread."""
    name, handler = _handler(view, request)
    if name == "options" or not isinstance(handler, MethodType):
        return
    if not (iscoroutinefunction(handler) or is_cooperative(handler)):
        setattr(view, name, in_thread(handler, "handler"))


@functools.lru_cache(maxsize=1024)
def _surrounds(cls: type) -> bool:
    """Whether a synchronous `dispatch()` that is not Django's surrounds the handlers of a view."""
    definer = next(base for base in cls.__mro__ if "dispatch" in vars(base))
    dispatch = vars(definer)["dispatch"]
    return not (is_below(definer.__module__, ("django",)) or iscoroutinefunction(dispatch))


def _place_waiting_handler(view: View, request: HttpRequest) -> None:
    """Replace a coroutine handler: it has finished when its call in `dispatch()` returns.

    Code that surrounds the call (`with transaction.atomic(): return super().dispatch(...)`, a
    decorator) then surrounds the handler. The call still returns an awaitable, as in stock Django.
    """
    name, handler = _handler(view, request)
    if iscoroutinefunction(handler):
        setattr(view, name, done_when_called(handler))


def done_when_called(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap a coroutine handler: synchronous code in the bridge that calls it waits for its end.

    Outside the bridge it is called as in stock Django.
    """

    @functools.wraps(handler, updated=())
    def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        answer = handler(*args, **kwargs)
        return _done(wait(answer), innermost.get()) if in_bridge() else answer

    return call


async def _done(response: T, block: Block | None) -> T:
    here = innermost.get()
    while block is not None and block is not here:
        block = block.parent  # an outer block, which was open too when the handler ran
    if here is not None and here is not block and here.open:
        raise TransactionManagementError(
            "The handler of this view ran when dispatch() called it, before this 'atomic' block "
            "was entered. Write 'async def dispatch()' and await super().dispatch() inside it."
        )
    return response


def _dispatch(view: View, *args: Any, **kwargs: Any) -> Awaitable[Any]:
    """Call the `dispatch()` of a view object, which this function replaces for one call."""
    vars(view).pop("dispatch", None)  # a reference cycle with the view would outlive the request
    if in_bridge():
        return _response(view.dispatch(*args, **kwargs))
    return _dispatch_in_bridge(view, *args, **kwargs)


async def _dispatch_in_bridge(view: View, *args: Any, **kwargs: Any) -> Any:
    return await _response(await run(view.dispatch, *args, **kwargs))


async def _response(answer: HttpResponseBase | Awaitable[HttpResponseBase]) -> HttpResponseBase:
    return await answer if inspect.isawaitable(answer) else answer
