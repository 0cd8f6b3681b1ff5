"""Engines and backends of projects and third parties: their methods run in a thread unless trusted.

Django makes an object of a class that the settings name (a session engine, an authentication
backend) and calls its methods from its own code, which runs on the loop. For a class that the
policy does not trust, `class_in_thread()` returns a subclass, made once. Called inside the bridge,
those methods of the subclass that may block run in a thread. In that thread, and outside the
bridge, they call the class's own methods directly, so that one call uses a thread once.

The subclass has the name, the module and the signatures of the class. Special methods, properties
and coroutine functions are not touched. Any thread may call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.views.decorators.debug import sensitive_variables

from django_aio.bridge import in_bridge
from django_aio.conf import listed
from django_aio.policy import in_thread, is_cooperative
from django_aio.policy.parts import own_mark

MADE_HERE = "_aio_in_thread"


def class_in_thread(cls: type, kind: str, entries: tuple[str, ...] = ()) -> type:
    """Return the class if the policy trusts it, else a subclass whose methods run in a thread.

    These are the methods that are defined by a class which is not trusted, and `entries`, whichever
    class defines them. `kind` is what the log calls the class.
    """
    if MADE_HERE in vars(cls) or is_cooperative(cls):
        return cls
    return _subclass(cls, kind, entries, listed())


class _Quiet:
    """Comes before the class: its `__init_subclass__()` is for the subclasses that others write."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        pass


@functools.lru_cache(maxsize=256)
def _subclass(cls: type, kind: str, entries: tuple[str, ...], on_list: tuple[str, ...]) -> type:
    """Make the subclass. It depends on `on_list` too, which is here for the cache."""
    attributes = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        MADE_HERE: True,
    }
    made: type = type(cls)(cls.__name__, (_Quiet, cls), attributes)
    for name in {*(name for name in entries if hasattr(cls, name)), *blocking_methods(cls)}:
        setattr(made, name, _in_thread(made, name, inspect.getattr_static(cls, name), kind))
    return made


def blocking_methods(cls: type) -> Iterator[str]:
    """The names of synchronous methods that are not trusted, of the class or of its bases."""
    for definer in cls.__mro__:
        for name, value in vars(definer).items():
            func = getattr(value, "__func__", value)
            if name.startswith("__") or isinstance(func, type) or not callable(func):
                continue
            if iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
                continue
            if not _is_trusted(definer, func):
                yield name


def _is_trusted(definer: type, func: Callable[..., Any]) -> bool:
    """Whether the policy trusts one method: its own mark counts, then that of its class."""
    mark = own_mark(definer) if own_mark(func) is None else None
    return is_cooperative(func) if mark is None else mark


def _in_thread(made: type, name: str, method: Any, kind: str) -> Any:
    """Return the method `name` of the class, of whichever kind, as one that runs in a thread.

    It is looked up at each call: a test may have put another in its place on the class.
    """
    static = isinstance(method, staticmethod)
    func = getattr(method, "__func__", method)

    # Hide the arguments, which may be a password, from error reports: asgiref's frames would show
    # them, and so would these.
    @sensitive_variables()
    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        @sensitive_variables()
        def work() -> Any:
            owner, *rest = (made, *args) if static else args
            return getattr(super(made, owner), name)(*rest, **kwargs)

        return in_thread(work, kind, of=func)() if in_bridge() else work()

    return type(method)(call) if isinstance(method, (classmethod, staticmethod)) else call
