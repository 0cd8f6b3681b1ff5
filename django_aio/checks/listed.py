"""The list `AIO["COOPERATIVE"]`: names that are not modules, and the two hazards in those that are.

- `django_aio.W003`: a name on the list is not a module.
- `django_aio.W004`: a module on the list has a `threading.local`, which all tasks of a loop share.
- `django_aio.I005`: a module on the list has a lock or queue, which stops the loop if it is held or
  waited for while the loop is needed. This is not a warning: most locks are held for a moment only
  and do no harm. Only `manage.py check` reports it.

The checks see only modules that have been imported, and what these define at their top level. They
skip Django's modules and ours.
"""

from __future__ import annotations

import importlib.util
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Info
from django.core.checks import Warning as CheckWarning

from django_aio.conf import OURS, is_below, listed
from django_aio.core.management.commands.check import when_asked

WAITS = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Semaphore,
    threading.Event,
    threading.Barrier,
    queue.Queue,
    queue.SimpleQueue,
)


def check_names(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report names on the list that cannot be found."""
    return [
        CheckWarning(
            f"AIO['COOPERATIVE'] names {name!r}, and there is no module of that name.",
            hint="A name is a dotted path as in an import statement. Correct or remove it.",
            obj="AIO",
            id="django_aio.W003",
        )
        for name in listed()
        if not _exists(name)
    ]


def _exists(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def check_thread_state(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Report `threading.local` objects in modules on the list."""
    return [
        CheckWarning(
            f"{name} is a threading.local. On the event loop all tasks share it: what one request "
            "stores another one finds.",
            hint="Use asgiref.local.Local, which has the same interface, or a "
            "contextvars.ContextVar. Or take the module off the list AIO['COOPERATIVE'].",
            obj=name,
            id="django_aio.W004",
        )
        for name, _ in _objects((threading.local,))
    ]


def check_locks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report locks, queues and the like in modules on the list."""
    return [
        Info(
            f"{name} is a {_kind(found)}. If a task waits (for a query, say) while it holds "
            "it, or another one waits for it, the event loop stands still for ever.",
            hint="Hold it only round code that does not wait: no query, no wait(). Otherwise use "
            "asyncio's, or mark the code @blocking.",
            obj=name,
            id="django_aio.I005",
        )
        for name, found in _objects(WAITS)
    ]


def _kind(found: object) -> str:
    cls = type(found)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _objects(kinds: tuple[type, ...]) -> Iterator[tuple[str, object]]:
    """The objects of these kinds in the imported modules on the list, each once."""
    seen: set[int] = set()
    for module in sorted(sys.modules):
        if is_below(module, listed()) and not is_below(module, OURS):
            for name, value in list(getattr(sys.modules[module], "__dict__", {}).items()):
                # isinstance() would evaluate Django's lazy objects.
                if issubclass(type(value), kinds) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{module}.{name}", value


CHECKS = (check_names, check_thread_state, when_asked(check_locks))
