"""Whose synchronous code runs on the event loop.

Django's own code does, and ours. A project's or third party's code runs in a thread, as it does
today, until its module is named:

    AIO = {"COOPERATIVE": ["polls", "rest_framework"]}

A name stands for the module and everything below it. `@cooperative` and `@blocking` mark a single
callable and win over the list. This release asks the policy about views and middleware.

The answers depend on the settings only; any thread may ask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_aio.bridge import wait

F = TypeVar("F", bound=Callable[..., Any])

OURS = ("django", "django_aio")
MARK = "_aio_cooperative"


def cooperative(func: F) -> F:
    """Mark a function or class: its synchronous code may run on the event loop.

    It must not block: what it waits for must go through Django (the database) or `wait()`.
    Returns the same object.
    """
    setattr(func, MARK, True)
    return func


def blocking(func: F) -> F:
    """Mark a function or class: its synchronous code may block, so it runs in a thread.

    Wins over `AIO["COOPERATIVE"]`. Returns the same object.
    """
    setattr(func, MARK, False)
    return func


def is_cooperative(func: Callable[..., Any]) -> bool:
    """Whether the synchronous callable `func` may run on the event loop.

    It may if it, or the class behind it, is marked `@cooperative`, or if the module that defines
    it, and that of every class whose instance or view it is, is Django's, ours or on the list.
    """
    behind = _behind(func)
    for thing in behind:
        mark = getattr(thing, MARK, None)
        if mark is not None:
            return bool(mark)
    return all(_on_list(_module(thing)) for thing in behind)


def in_thread(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that, called inside the bridge, runs `func` in a thread and waits.

    The thread is the one that asgiref keeps for this request, as in Django without us. `func`'s
    connections there are that thread's; they are closed with the request.
    """
    hop = sync_to_async(func, thread_sensitive=True)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return wait(hop(*args, **kwargs))

    return call


def _behind(func: Any) -> list[Any]:
    """What a call of `func` would run, as far as can be seen from outside, innermost first."""
    while isinstance(func, functools.partial):
        func = func.func
    # A class-based view, a view of the admin, a method: the code is that of the class behind it.
    names = ("view_class", "model_admin", "admin_site", "__self__")
    behind = (getattr(func, name, None) for name in names)
    return [func, *(thing for thing in behind if thing is not None)]


def _module(thing: Any) -> str:
    """The module that defines a function, or the class of an object."""
    found = getattr(thing, "__module__", None) or type(thing).__module__
    return str(found)


@functools.cache
def _on_list(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _listed())


@functools.cache
def _listed() -> tuple[str, ...]:
    options = getattr(settings, "AIO", {})
    names = options.get("COOPERATIVE", ()) if isinstance(options, dict) else None
    if (
        not isinstance(names, (list, tuple, set, frozenset))
        or set(options) - {"COOPERATIVE"}
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ImproperlyConfigured(
            "The AIO setting must be a dictionary whose only key 'COOPERATIVE' is a list of module "
            f"names, such as {{'COOPERATIVE': ['polls']}}. It is {options!r}."
        )
    return (*OURS, *names)


def _forget(*, setting: str, **kwargs: object) -> None:
    """Read the setting again after a test has overridden it."""
    if setting == "AIO":
        _listed.cache_clear()
        _on_list.cache_clear()


setting_changed.connect(_forget)
