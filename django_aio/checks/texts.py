"""Helpers of the checks about the policy: objects that the settings name, parts of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.checks import CheckMessage, Info
from django.utils.module_loading import import_string

from django_aio.policy import Obstacle, obstacle
from django_aio.policy.parts import name_of

MOST_NAMES = 5


def imported(paths: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Import the objects that the settings name. Skip errors, which Django reports."""
    for path in paths:
        try:
            yield path, import_string(path)
        except ImportError:
            continue


def remedy(module: str, otherwise: str) -> str:
    """The hint for code that runs in a thread because of `module`."""
    return (
        f"If nothing in {module} blocks but Django's own calls, add it to AIO['COOPERATIVE']. "
        f"Otherwise {otherwise}, or leave it: it works."
    )


def joined(names: list[str]) -> str:
    """Join names with commas and an 'and'."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def by_module(
    callables: Iterable[Callable[..., Any]], kind: str, otherwise: str, check: str
) -> list[CheckMessage]:
    """Return one message for each module that would have to be on the list."""
    groups: dict[str, set[str]] = {}
    for func in callables:
        why = None if iscoroutinefunction(func) else obstacle(func)
        if why is not None and not why.marked:
            groups.setdefault(why.module, set()).add(name_of(func))
    return [
        Info(
            f"{_count(names, kind)} to a thread: {Obstacle('', module, False)} "
            f"({_some(sorted(names))}).",
            hint=remedy(module, otherwise),
            obj=module,
            id=check,
        )
        for module, names in sorted(groups.items())
    ]


def _count(names: set[str], kind: str) -> str:
    return f"1 {kind} goes" if len(names) == 1 else f"{len(names)} {kind}s go"


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES] + [f"and {more} more"] * (more > 0))
