"""Fast reading of `asgiref.local.Local`, which a request reads hundreds of times.

The active language, time zone and URLconf are attributes of such objects, and nearly always unset.
Reading an unset one costs 4 µs, most of it for the text of an AttributeError, which `getattr()`
with a default throws away: some 5% of a page with many links. A `DirectLocal` reads the same
storage by the same rule: a value belongs to the context and the thread that it was set in.

Values are written by asgiref, but without its lock, because only one thread at a time runs in a
context. If this release of asgiref has another kind of storage, nothing is changed. Called by any
thread and task.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.local import Local
from django.conf import settings
from django.utils.translation import trans_real

_thread = threading.get_ident


class DirectLocal:
    """Stand-in for a `Local`, with the same attributes. Any thread and task may use it."""

    __slots__ = ("_data", "_storage")

    _data: ContextVar[Any]
    _storage: Any

    def __init__(self, local: Local) -> None:
        object.__setattr__(self, "_storage", local._storage)
        object.__setattr__(self, "_data", local._storage._data)

    def __getattr__(self, name: str) -> Any:
        stored = self._data.get(None)
        if stored is not None and name in stored.data and stored.thread_id == _thread():
            return stored.data[name]
        raise AttributeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._storage, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._storage, name)


def direct(upstream: Local) -> Any:
    """Return a `DirectLocal` for the `Local`, or the `Local` if asgiref stores values otherwise."""
    return DirectLocal(upstream) if _is_known() else upstream


def _is_known() -> bool:
    """Whether a `DirectLocal` finds what a `Local` stores, and finds nothing before."""
    probe: Any = Local()
    try:
        direct_local: Any = DirectLocal(probe)
        before = getattr(direct_local, "value", None)
        probe.value = probe
        return before is None and direct_local.value is probe
    except (AttributeError, TypeError):
        return False


def get_language(upstream: Callable[[], Any]) -> Callable[[], Any]:
    """`get_language()`: return LANGUAGE_CODE after one look if no language has been activated.

    Each link of a page asks for the language several times. Called by any thread and task.
    """
    module: Any = trans_real

    @functools.wraps(upstream)
    def get_language() -> Any:
        active: Any = module._active  # replaced by Django after a translation file has changed
        if type(active) is DirectLocal and active._data.get(None) is None:
            return settings.LANGUAGE_CODE
        return upstream()

    return get_language
