"""Coroutine functions where Django calls a plain method: the hooks of views, forms and the admin.

Django's classes that are meant to be subclassed call their own methods: `get_queryset()`,
`form_valid()`, `clean()`. An `async def` in place of one returns a coroutine, which Django's code
does not await. `adopt()` is called for each such subclass and turns its coroutine functions into
hooks:

- A coroutine that calls a hook gets the coroutine, as in stock Django, and awaits it.
- Synchronous code inside the bridge gets the result; the loop goes on meanwhile.
- Synchronous code in a thread without a loop gets the result too; the thread waits.
- Synchronous code that a coroutine called directly can neither await nor wait. A project's code
  gets the coroutine, as in stock Django: it may be a helper that passes it on (a timing decorator).
  Django's own code cannot use a coroutine: BridgeError, with the remedy.

Called where classes are made; the hooks may be called from any thread.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator
from types import FrameType, FunctionType
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from django_aio.awaiting import await_call
from django_aio.bridge import in_bridge
from django_aio.conf import is_below
from django_aio.policy.parts import leads_to

COROUTINE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
# Names of code inside a function: the caller is the function around it.
INNER = ("<genexpr>", "<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>")
HOOK = "_aio_hook"
# The attributes that mark a function as a coroutine function, from Python 3.12 on and before.
MARKS = ("_is_coroutine_marker", "_is_coroutine")

CoroutineFunction = Callable[..., Coroutine[Any, Any, Any]]


def hook(func: CoroutineFunction, remedy: str, *, marked: bool = True) -> Callable[..., Any]:
    """Return the coroutine function `func` as a hook. `remedy` ends the message of the error.

    `iscoroutinefunction()` is true of the hook unless `marked` is false: Django copies the
    attributes of a view, and such a mark with them, to the wrappers that it puts around the view.
    """

    @functools.wraps(func, updated=("__dict__",) if marked else ())
    def call(*args: Any, **kwargs: Any) -> Any:
        if _is_awaited(sys._getframe(1)) or _is_passed_on(sys._getframe(1)):
            return func(*args, **kwargs)
        message = refusal(func.__qualname__, remedy)
        return await_call(functools.partial(func, *args, **kwargs), message)

    # Not merely True: functools.wraps() copies the attribute to decorators, which are not hooks.
    setattr(call, HOOK, id(call))
    if marked:
        return markcoroutinefunction(call)
    vars(call).update({**attributes_of(func), "__wrapped__": func})
    return call


def attributes_of(func: Callable[..., Any]) -> dict[str, Any]:
    """The attributes of a function, without the marks of a coroutine function."""
    return {name: value for name, value in func.__dict__.items() if name not in MARKS}


def is_hook(method: object) -> bool:
    """Whether a function, or the function of a bound method, is a hook."""
    func = getattr(method, "__func__", method)
    return getattr(func, HOOK, None) == id(func)


def refusal(name: str, remedy: str) -> str:
    """The error message for a coroutine function that cannot be waited for."""
    return (
        f"{name}() is a coroutine function, and synchronous code that a coroutine called directly "
        f"cannot wait for it. {remedy}"
    )


def _is_awaited(caller: FrameType | None) -> bool:
    """Whether the caller is a coroutine, which awaits what it gets."""
    while caller is not None and caller.f_code.co_name in INNER:
        caller = caller.f_back
    return caller is not None and bool(caller.f_code.co_flags & COROUTINE)


VIEW = "View.as_view.<locals>.view"


def _is_passed_on(caller: FrameType) -> bool:
    """Whether nothing may wait here and the caller passes what it gets on to a coroutine.

    Such a caller is a project's function or, in Django, the function that `as_view()` makes.
    """
    if asyncio._get_running_loop() is None or in_bridge():
        return False
    if caller.f_code.co_qualname == VIEW:
        return True
    return not is_below(caller.f_globals.get("__name__", ""), ("django", "django_aio"))


def adopt(
    cls: type,
    remedy: str,
    *,
    prefixes: tuple[str, ...] = (),
    besides: Collection[str] = (),
    unmarked: tuple[str, ...] = (),
) -> None:
    """Turn coroutine functions of a class into hooks, those of its mixins included.

    These are the functions that override a synchronous method of a base, or whose name starts with
    one of `prefixes`, but not those whose name is in `besides`. A hook whose name starts with one
    of `unmarked` is not marked as a coroutine function: see `hook()`.
    """
    line = cls.__mro__
    for at, definer in enumerate(line):
        if is_upstream(definer):
            continue
        for name, method in list(vars(definer).items()):
            if not isinstance(method, FunctionType) or name in besides or is_hook(method):
                continue
            if not iscoroutinefunction(method):
                continue
            if name.startswith(prefixes) or _is_synchronous(name, line[at + 1 :]):
                marked = not name.startswith(unmarked)
                setattr(definer, name, hook(method, remedy, marked=marked))


def is_upstream(cls: type) -> bool:
    """Whether a class is one of Django's own, which has nothing to adopt."""
    return is_below(cls.__module__, ("django", "builtins")) and leads_to(cls)


def _is_synchronous(name: str, bases: tuple[type, ...]) -> bool:
    """Whether the next class that has the method has a synchronous one, or a hook."""
    for base in bases:
        if name in vars(base):
            method = vars(base)[name]
            return callable(method) and (not iscoroutinefunction(method) or is_hook(method))
    return False


def adopting(base: Any, adopt: Callable[[Any], None]) -> Any:
    """Return an `__init_subclass__` for `base` that calls `adopt()` for every subclass.

    Calls it now for the subclasses that exist already: a project's classes may have been made
    before the series is applied.
    """

    def __init_subclass__(cls: Any, /, **kwargs: Any) -> None:
        super(base, cls).__init_subclass__(**kwargs)
        adopt(cls)

    for each in _subclasses(base):
        adopt(each)
    return classmethod(__init_subclass__)


def _subclasses(cls: type) -> Iterator[type]:
    each: type
    for each in type.__subclasses__(cls):
        yield each
        yield from _subclasses(each)
