"""How the tables of the series are written: rows, grouped by the module that they patch.

    *of(
        "django.db.transaction",
        add("aon_commit", "db.transaction:aon_commit", "transaction.aon_commit()"),
        replace("Atomic.{}", "db.atomic:{}", "tasks take turns", names="__enter__ __exit__"),
        early=True,
    )

A row says what is done (`django_aio.patching`), to which attribute of the module, what replaces the
attribute, and why. The name of the replacement is relative to `django_aio`. A row with `names=`
stands for one patch for each name, which takes the place of `{}`. Conditions hold for one row, or
for all if they are given to `of()`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from django_aio.patching import Patch, Verb


class Row(NamedTuple):
    """One row of a table: a patch, or one for each of its names."""

    verb: Verb
    path: str
    by: str
    why: str
    names: str
    conditions: dict[str, Any]


def _row(verb: Verb, path: str, by: str, why: str, *, names: str = "", **conditions: Any) -> Row:
    return Row(verb, path, by, why, names, conditions)


add = functools.partial(_row, Verb.ADD)
rebind = functools.partial(_row, Verb.REBIND)
replace = functools.partial(_row, Verb.REPLACE)


def of(module: str, *rows: Row, **conditions: Any) -> tuple[Patch, ...]:
    """The patches of one module, in the order of its rows."""
    patches = []
    for row in rows:
        for name in row.names.split() or [""]:
            path, by, why = (text.replace("{}", name) for text in (row.path, row.by, row.why))
            target, options = f"{module}:{path}", {**conditions, **row.conditions}
            patches.append(Patch(row.verb, target, _ours(by), why, **options))
    return tuple(patches)


def _ours(by: str) -> str:
    """The full name of a replacement: in `django_aio`, unless it is one of asyncio's own."""
    return by if by.startswith("asyncio.") else f"django_aio.{by}"
