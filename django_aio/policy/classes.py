"""Engines and backends that others wrote: their methods run in a thread unless trusted.

Django makes an object of a class that the settings name (a session engine, an authentication
backend) and calls its methods from its own code, which runs on the loop. `class_in_thread()`
returns a subclass of a class that the policy does not trust, made once. Called inside the bridge,
the methods of the subclass that may block run in a thread; in the thread, and outside the bridge,
they are the class's own, so that one call goes to a thread once.

The subclass has the name, the module and the signatures of the class. Special methods, properties
and coroutine functions are not touched. Any thread may ask.
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
    """The class itself if the policy trusts it, else the subclass whose methods run in a thread.

    These are the methods that a class which is not trusted defines, and `entries`, whoever defines
    them. `kind` is what the log calls the class.
    """
    if MADE_HERE in vars(cls) or is_cooperative(cls):
        return cls
    return _subclass(cls, kind, entries, listed())


@functools.lru_cache(maxsize=256)
def _subclass(cls: type, kind: str, entries: tuple[str, ...], on_list: tuple[str, ...]) -> type:
    """Make the subclass. It depends on the list too."""
    names = dict.fromkeys(
        [*(name for name in entries if hasattr(cls, name)), *blocking_methods(cls)]
    )
    methods = {name: _in_thread(inspect.getattr_static(cls, name), kind) for name in names}
    attributes = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        MADE_HERE: True,
        **methods,
    }
    return type(cls)(cls.__name__, (cls,), attributes)


def blocking_methods(cls: type) -> Iterator[str]:
    """The synchronous methods that a class which is not trusted defines, here or in a base."""
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
    """What the policy says of one method: its own mark counts, then that of its class."""
    mark = own_mark(definer) if own_mark(func) is None else None
    return is_cooperative(func) if mark is None else mark


def _in_thread(
    method: Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any], kind: str
) -> Any:
    """The method of a class, of whichever kind, as one that runs in a thread."""
    if isinstance(method, (classmethod, staticmethod)):
        return type(method)(_in_thread(method.__func__, kind))

    # asgiref's frames would show the arguments, a password, say, in error reports, and so would
    # these.
    @sensitive_variables()
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        @sensitive_variables()
        def work() -> Any:
            return method(*args, **kwargs)

        return in_thread(work, kind, of=method)() if in_bridge() else work()

    return call
