"""The listing of the series: `python -m django_aio series`, `manage.py aio series`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import django

from django_aio import __version__, series
from django_aio.patching import Patch, Status


def write_series(write: Callable[[str], object]) -> int:
    """Write the patches by area and module, and what became of each.

    A patch is two lines: its state, verb, name and, in brackets, what it becomes, named from below
    `django_aio`; then the reason.

    Returns how many need attention: those in conflict, and those whose target is another source
    than they were written against.
    """
    write(f"django-aio {__version__} on Django {django.__version__}")
    for area, patches in series.AREAS.items():
        write(f"\n{area.capitalize()}")
        _write_area(write, [patch for patch in patches if patch in series.SERIES])
    applied = sum(patch.status is Status.APPLIED for patch in series.SERIES)
    wrong = len(series.conflicts()) + len(series.drifted())
    write(f"\n{applied} of {len(series.SERIES)} patches applied, {wrong} need attention")
    return wrong


def _write_area(write: Callable[[str], object], patches: Iterable[Patch]) -> None:
    for module, those in itertools.groupby(patches, key=lambda patch: patch.module):
        write(f"  {module}")
        for patch in those:
            name, by = patch.target.partition(":")[2], patch.by.removeprefix("django_aio.")
            write(f"    {_state(patch):9} {patch.verb.value:8} {name}  [{by}]")
            write(f"{'':23}{patch.why}{_remark(patch)}")


def _state(patch: Patch) -> str:
    return "drifted" if patch.drifted else patch.status.value


def _remark(patch: Patch) -> str:
    remark = patch.reason or (f"wraps {patch.stranger}" if patch.stranger else "")
    return f" ({remark})" if remark else ""
