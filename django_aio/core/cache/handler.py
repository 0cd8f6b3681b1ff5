"""`caches["default"]`: a cache backend of a project's or third party's does not stop the loop.

Django's own backends wait on the loop. One that the policy does not trust works as it is, but each
of its methods that bridged code calls (a view, the cache middleware, `{% cache %}`) runs in a
thread from its beginning to its end, and so does its constructor: one call is one hop. What it
inherits from a backend of Django's goes to the thread with the rest of it, because it calls what
the class overrides. Its own coroutine functions are awaited as they are.

`get_or_set()` is left on the loop unless the class has its own: what it calls hops, and others who
want the same key wait for one computation. (Django documentation, "Using a custom cache backend".)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from django_aio.policy import is_cooperative
from django_aio.policy.classes import class_in_thread

# What a backend is asked for. Key functions only compute, and close() does nothing unless the
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
    """Whether a class that is not trusted defines the constructor, which may open a file, say."""
    constructor = inspect.getattr_static(backend, "__init__")
    return isinstance(constructor, FunctionType) and not is_cooperative(constructor)
