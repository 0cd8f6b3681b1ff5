"""Class-based views: `async def` in the place of any method, and asynchronous handlers.

Every class of `django.views.generic`, and every view of a project's or third party's that derives
from `View`, may override any method by a coroutine function (`get_queryset()`, `form_valid()`,
`dispatch()`, `setup()`, what the access mixins ask): see `hooks.py`. Mixins need not derive from
`View`. Handlers (`get()`, `post()`) are Django's affair, with two things more:

- A class may have asynchronous handlers of its own next to synchronous ones that it inherits from
  Django, such as `UpdateView.get()`. Those run where the policy says.
- `dispatch()` is synchronous, and so is what overrides it: a mixin that looks at `request.user`, a
  decorator that redirects. In a view with asynchronous handlers it runs inside the bridge, so that
  it may wait, and what it returns is awaited if it is an awaitable, else it is the response. Stock
  Django awaits it in any case, which fails for a redirect. The handler is done when `dispatch()`
  has called it, so that a transaction or a language round the call is round the handler.

The steps of an asynchronous handler are those of a plain coroutine: it calls a synchronous method
that queries, or that leads to a hook, by `await run(self.get_context_data)`.

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
    # options() is not a handler for Django when it decides which kind of view this is. as_view()
    # copies the attributes of dispatch() to the view, which is not a coroutine function for that.
    handlers = {*View.http_method_names, *cls.http_method_names} - {"options"}
    adopt(cls, REMEDY, besides=handlers, unmarked=("dispatch",))


# `View.__init_subclass__`: see adopting().
init_subclass = adopting(View, adopt_view)


def as_view(upstream: object) -> Any:
    """`View.as_view`: methods that were decorated after the class was made are hooks too."""
    make = unbound(upstream)

    @functools.wraps(make)
    def as_view(cls: type[View], /, **initkwargs: Any) -> Callable[..., Any]:
        if not is_below(cls.__module__, ("django",)):
            adopt_view(cls)
        view = make(cls, **initkwargs)
        # Whoever decorates or awaits an asynchronous view calls it from a coroutine.
        return _set_up_in_bridge(view) if cls.view_is_async and is_hook(cls.setup) else view

    made: Any = as_view
    return classonlymethod(made)


def _set_up_in_bridge(view: Callable[..., Any]) -> Callable[..., Any]:
    """The asynchronous view, whose `setup()` is a hook."""

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
    """The handlers that another class than one of Django's defines."""
    found = []
    for name in cls.http_method_names:
        definer = next((base for base in cls.__mro__ if name in vars(base)), View)
        if name != "options" and not is_below(definer.__module__, ("django",)):
            found.append(getattr(cls, name))
    return found


def setup(upstream: Callable[..., None]) -> Callable[..., None]:
    """`View.setup`: the view's `dispatch()` answers with an awaitable if its handlers do."""

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
    """The name of the handler of a request, and the handler if the view has it."""
    method: Any = request.method
    name = method.lower()
    return name, getattr(view, name, None) if name in view.http_method_names else None


def _place_handler(view: View, request: HttpRequest) -> None:
    """Have a synchronous handler that a coroutine leads to run where the policy says."""
    name, handler = _handler(view, request)
    if name == "options" or not isinstance(handler, MethodType):
        return
    if not (iscoroutinefunction(handler) or is_cooperative(handler)):
        setattr(view, name, in_thread(handler, "handler"))


@functools.lru_cache(maxsize=1024)
def _surrounds(cls: type) -> bool:
    """Whether a project's synchronous code surrounds the handlers of a view: its `dispatch()`."""
    definer = next(base for base in cls.__mro__ if "dispatch" in vars(base))
    dispatch = vars(definer)["dispatch"]
    return not (is_below(definer.__module__, ("django",)) or iscoroutinefunction(dispatch))


def _place_waiting_handler(view: View, request: HttpRequest) -> None:
    """Have a coroutine handler done when `dispatch()` has called it.

    What surrounds the call (a decorator, `with transaction.atomic(): return super().dispatch(...)`)
    then surrounds the handler. It still gets an awaitable, as in stock Django.
    """
    name, handler = _handler(view, request)
    if iscoroutinefunction(handler):
        setattr(view, name, done_when_called(handler))


def done_when_called(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A coroutine handler that has run when synchronous code in the bridge has called it.

    Elsewhere it is called as in stock Django.
    """

    @functools.wraps(handler, updated=())
    def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        answer = handler(*args, **kwargs)
        return _done(wait(answer), innermost.get()) if in_bridge() else answer

    return call


async def _done(response: T, block: Block | None) -> T:
    here = innermost.get()
    while block is not None and block is not here:
        block = block.parent  # one that was open when the handler ran
    if here is not None and here is not block and here.open:
        raise TransactionManagementError(
            "The handler of this view ran when dispatch() called it, before this 'atomic' block "
            "was entered. Write 'async def dispatch()' and await super().dispatch() inside it."
        )
    return response


def _dispatch(view: View, *args: Any, **kwargs: Any) -> Awaitable[Any]:
    """Stands in front of the `dispatch()` of one view object, for one call."""
    vars(view).pop("dispatch", None)  # it refers to the view: the two would outlive the request
    if in_bridge():
        return _response(view.dispatch(*args, **kwargs))
    return _dispatch_in_bridge(view, *args, **kwargs)


async def _dispatch_in_bridge(view: View, *args: Any, **kwargs: Any) -> Any:
    return await _response(await run(view.dispatch, *args, **kwargs))


async def _response(answer: HttpResponseBase | Awaitable[HttpResponseBase]) -> HttpResponseBase:
    return await answer if inspect.isawaitable(answer) else answer
