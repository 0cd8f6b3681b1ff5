"""Reading of `asgiref.local.Local`, which a request does hundreds of times, without its detour.

The active language, time zone and URLconf are attributes of such objects, and nearly always unset.
A look at one that is unset costs 4 µs, most of it for the text of an AttributeError, which
`getattr()` with a default throws away: some 5% of a page with many links. `quick()` reads the same
storage by the same rule: a value belongs to the context and the thread that it was set in.

Writing is asgiref's, without the lock: a context belongs to who runs in it. If its storage is not
the one that is known here, nothing is changed. Called from any thread and task.
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


class QuickLocal:
    """Stands in for a `Local`: the same attributes. Any thread and task."""

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


def quick(upstream: Local) -> Any:
    """The `Local` as a `QuickLocal`, or as it is if this asgiref stores values in another way."""
    return QuickLocal(upstream) if _is_known() else upstream


def _is_known() -> bool:
    """Whether what a Local stores is found where `QuickLocal` looks, and nowhere else."""
    probe: Any = Local()
    try:
        quickly: Any = QuickLocal(probe)
        before = getattr(quickly, "value", None)
        probe.value = probe
        return before is None and quickly.value is probe
    except (AttributeError, TypeError):
        return False


def get_language(upstream: Callable[[], Any]) -> Callable[[], Any]:
    """`get_language()`: where nothing has been activated, one look tells the language.

    Each link of a page asks several times which it is. Any thread and task.
    """
    module: Any = trans_real

    @functools.wraps(upstream)
    def get_language() -> Any:
        active: Any = module._active  # another one after a file of translations was changed
        if type(active) is QuickLocal and active._data.get(None) is None:
            return settings.LANGUAGE_CODE
        return upstream()

    return get_language
