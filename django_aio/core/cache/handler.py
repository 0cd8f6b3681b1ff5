"""`caches["default"]`: the cache backend of a project or third party does not stop the loop.

Django's own backends wait on the loop. A backend that the policy does not trust works unchanged,
but each of its methods that bridged code calls (a view, the cache middleware, `{% cache %}`) runs
in a thread as a whole, and so does its constructor. So do the methods that it inherits from one of
Django's backends, because they call what the class overrides. Its own coroutine functions are
awaited as they are.

`get_or_set()` stays on the loop unless the class has its own: the methods that it calls run in a
thread, and other tasks that want the same key wait for one computation. (Django documentation,
"Using a custom cache backend".)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from django_aio.policy import is_cooperative
from django_aio.policy.classes import class_in_thread

# The methods that callers use. Key functions only compute, and close() does nothing unless the
# class defines it.
ENTRIES = (
    "__contains__",
    "add",
    "clear",
    "decr",
    "decr_version",
    "delete",
    "delete_many",
    "get",
    "get_many",
    "has_key",
    "incr",
    "incr_version",
    "set",
    "set_many",
    "touch",
)


def import_backend(upstream: Callable[[str], Any]) -> Callable[[str], Any]:
    """`import_string` where a cache is made: the class, as the policy says.

    A factory that is not a class is returned as it is.
    """

    @functools.wraps(upstream)
    def import_string(path: str) -> Any:
        backend = upstream(path)
        if not isinstance(backend, type):
            return backend
        entries = ("__init__", *ENTRIES) if _has_own_constructor(backend) else ENTRIES
        return class_in_thread(backend, "cache method", entries)

    return import_string


def _has_own_constructor(backend: type) -> bool:
    """Whether code that is not trusted defines the constructor, which may open a file, say."""
    constructor = inspect.getattr_static(backend, "__init__")
    return isinstance(constructor, FunctionType) and not is_cooperative(constructor)
