#!/usr/bin/env python
"""Is the SQL that is kept the SQL that Django makes? Random querysets, on four databases.

    tests/fuzz_sql.py --count 1000000 --seed 1 --processes 2

Each queryset is built at random, then compiled with several sets of values that are few, so that
they equal each other and the queryset's constants. What was kept of the first is compared with what
Django makes of each. Nothing is sent to a database but what compiling asks for. Prints what differs
with the seed that makes it again; exit status 1 if anything does.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import decimal
import itertools
import multiprocessing
import os
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "HOST": os.environ.get("PGHOST", "127.0.0.1"),
    "PORT": os.environ.get("PGPORT", "5432"),
    "USER": os.environ.get("PGUSER", "postgres"),
    "PASSWORD": os.environ.get("PGPASSWORD", ""),
}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
DATABASES = {
    "default": SQLITE,
    "archive": SQLITE,
    "server": POSTGRESQL,
    # Parameters have types here.
    "binding": {**POSTGRESQL, "OPTIONS": {"server_side_binding": True}},
}
VALUES_OF_EACH = 3

NUMBERS = (0, 1, 2, 3, -1, 2**40, 2**70)
TEXTS = ("", "a", "b", "1", "50%", "%s", "'", "a_b")
# Few, so that values are often equal to them.
CONSTANTS = (1, 2, "a", "1")
DAYS = tuple(datetime.date(2026, 1, day) for day in (1, 2, 3))
POOLS: dict[str, tuple[Any, ...]] = {
    "int": (*NUMBERS, "1", 1.0, True),
    "str": (*TEXTS, 1),
    "bool": (True, False),
    "float": (0.0, 1.0, 1, 2.5, "1"),
    "decimal": tuple(map(decimal.Decimal, ("0", "1", "1.00", "2.5"))),
    "date": DAYS,
    "datetime": tuple(
        datetime.datetime(2026, 1, day, hour, tzinfo=datetime.UTC)
        for day in (1, 2)
        for hour in (0, 5)
    ),
    "duration": tuple(datetime.timedelta(days) for days in (0, 1, 2)),
    "uuid": (uuid.UUID(int=1), uuid.UUID(int=2), str(uuid.UUID(int=1))),
    "bytes": (b"", b"a", b"b"),
    "json": (1, "a", [1], {"a": 1}, None),
}
COMPARED = ("exact", "gt", "gte", "lt", "lte", "in", "range", "isnull", "ne")
TEXTUAL = ("exact", "iexact", "contains", "icontains", "startswith", "iendswith", "in", "gt", "ne")
LOOKUPS = {
    "str": (*TEXTUAL, "regex", "isnull"),
    "bool": ("exact", "in", "isnull"),
    "json": ("exact", "contains", "isnull"),
    "int": (*COMPARED, "half", "half__gt"),
    **dict.fromkeys(("uuid", "bytes"), ("exact", "in", "isnull", "ne")),
}
FIELDS = {
    "Item": {
        "number": "int",
        "small": "int",
        "text": "str",
        "flag": "bool",
        "ratio": "float",
        "day": "date",
        "moment": "datetime",
        "length": "duration",
        "ident": "uuid",
        "data": "bytes",
        "facts": "json",
        "owner": "int",
        "owner__name": "str",
        "owner__salary": "decimal",
        "owner__boss__age": "int",
        "owner__labels__text": "str",
        "by_name": "int",
        "by_name__text": "str",
        "pk": "int",
        "owner__nick": "str",
    },
    "Person": {
        "name": "str",
        "nick": "str",
        "age": "int",
        "boss": "int",
        "boss__name": "str",
        "labels": "int",
        "labels__text": "str",
        "employee__salary": "decimal",
        "pk": "int",
    },
    "Employee": {
        "name": "str",
        "age": "int",
        "salary": "decimal",
        "boss__boss__name": "str",
        "items__number": "int",
        "items__flag": "bool",
        "labels__text": "str",
        "pk": "int",
    },
    "Label": {"text": "str", "pk": "int", "person__age": "int"},
}
FIELDS["Senior"] = FIELDS["Employee"]


class Recipe:
    """A random queryset with places for values."""

    def __init__(self, dice: random.Random) -> None:
        self.model = dice.choice(list(FIELDS))
        self.paths = FIELDS[self.model]
        self.steps = [self._step(dice) for _ in range(dice.randint(0, 5))]

    def _step(self, dice: random.Random) -> tuple[str, Any]:
        kind = dice.choice(
            ("filter",) * 5 + ("order by a constant of its own",) * 3 + tuple(CHANGES)
        )
        if kind == "filter":
            conditions = [self._condition(dice) for _ in range(dice.randint(1, 3))]
            return "filter", (dice.choice("&|^~x"), conditions)
        path = dice.choice(list(self.paths))
        return kind, (path, dice.choice(("c", "d")), dice.choice(CONSTANTS))

    def _condition(self, dice: random.Random) -> tuple[str, str, str]:
        path = dice.choice(list(self.paths))
        kind = self.paths[path]
        return path, kind, dice.choice(LOOKUPS.get(kind, COMPARED))

    def build(self, alias: str, dice: random.Random) -> Any:
        """The query, with values."""
        from django.apps import apps

        queryset = apps.get_model("fuzzapp", self.model)._default_manager.using(alias)
        for kind, arguments in self.steps:
            if kind == "filter":
                queryset = self._filtered(queryset, *arguments, dice)
            else:
                queryset = CHANGES[kind](queryset, *arguments)
        return queryset if not hasattr(queryset, "query") else queryset.query

    def _filtered(
        self, queryset: Any, connector: str, conditions: list[Any], dice: random.Random
    ) -> Any:
        from django.db.models import Q

        found = [
            Q(**{f"{path}__{lookup}": value(kind, lookup, dice)})
            for path, kind, lookup in conditions
        ]
        whole = found[0]
        for each in found[1:]:
            whole = (
                whole | each
                if connector == "|"
                else whole ^ each
                if connector == "^"
                else whole & each
            )
        if connector == "x":
            return queryset.exclude(whole)
        return queryset.filter(~whole if connector == "~" else whole)


def value(kind: str, lookup: str, dice: random.Random) -> Any:
    """What a lookup looks for."""
    pool = POOLS["int" if lookup.startswith("half") else kind]
    if lookup == "isnull":
        return dice.choice((True, False))
    if lookup == "in":
        return [dice.choice(pool) for _ in range(dice.choice((0, 1, 1, 2, 3)))]
    if lookup == "range":
        return dice.choice(pool), dice.choice(pool)
    return dice.choice(pool)


def _changes() -> dict[str, Any]:
    from django.db.models import Avg, Count, Exists, F, Max, OuterRef, Sum, Value

    return {
        "order": lambda q, path, name, constant: q.order_by(path),
        "order down": lambda q, path, name, constant: q.order_by(f"-{path}", "pk"),
        "order by constant": lambda q, path, name, constant: q.order_by(name),
        "order by a constant of its own": lambda q, path, name, constant: q.alias(
            **{name: Value(constant)}
        ).order_by(name),
        "no order": lambda q, path, name, constant: q.order_by(),
        "reverse": lambda q, path, name, constant: q.reverse(),
        "alias": lambda q, path, name, constant: q.alias(**{name: Value(constant)}),
        "annotate": lambda q, path, name, constant: q.annotate(**{name: Value(constant)}),
        "count": lambda q, path, name, constant: q.annotate(**{name: Count(path)}),
        "count distinct": lambda q, path, name, constant: q.annotate(
            **{name: Count(path, distinct=True)}
        ),
        "max": lambda q, path, name, constant: q.annotate(**{name: Max(path)}),
        "sum": lambda q, path, name, constant: q.alias(**{name: Sum(path)}),
        "average": lambda q, path, name, constant: q.annotate(**{name: Avg(path) + constant}),
        "column": lambda q, path, name, constant: q.annotate(**{name: F(path)}),
        "sum of column": lambda q, path, name, constant: q.annotate(**{name: F(path) + constant}),
        "exists": lambda q, path, name, constant: q.annotate(
            **{name: Exists(q.model._default_manager.filter(pk=OuterRef("pk")))}
        ),
        "values": lambda q, path, name, constant: q.values(path, name),
        "values of one": lambda q, path, name, constant: q.values_list(path, flat=True),
        "grouped": lambda q, path, name, constant: q.values(path).annotate(**{name: Count("pk")}),
        "distinct": lambda q, path, name, constant: q.distinct(),
        "related": lambda q, path, name, constant: q.select_related(),
        "related by name": lambda q, path, name, constant: q.select_related(path.split("__")[0]),
        "only": lambda q, path, name, constant: q.only(path),
        "defer": lambda q, path, name, constant: q.defer(path),
        "slice": lambda q, path, name, constant: q[1 : 2 + len(path) % 3],
        "union": lambda q, path, name, constant: q.union(q.model._default_manager.all()),
        "locked": lambda q, path, name, constant: q.select_for_update(),
        "none": lambda q, path, name, constant: q.none(),
        "any": lambda q, path, name, constant: q.query.exists(),
        "dates": lambda q, path, name, constant: q.dates("day", "month"),
    }


CHANGES: dict[str, Any] = {}


def set_up(with_postgresql: bool) -> list[str]:
    """Configure Django. Returns the aliases of the databases."""
    import django
    from django.conf import settings

    databases = {
        alias: each
        for alias, each in DATABASES.items()
        if with_postgresql or each["ENGINE"] != POSTGRESQL["ENGINE"]
    }
    settings.configure(
        DATABASES=databases,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django_aio", "fuzzapp"],
        USE_TZ=True,
    )
    django.setup()
    CHANGES.update(_changes())
    return list(databases)


class Found(NamedTuple):
    """What one process found out."""

    compared: int
    without_shape: int  # whose SQL is never kept
    refused: int  # by Django
    differences: list[str]


def fuzz(seed: int, count: int, with_postgresql: bool) -> Found:
    """Compare about `count` querysets."""
    from django.core.exceptions import FieldError, ValidationError
    from django.db import NotSupportedError, connections
    from django.db.models.sql.compiler import SQLCompiler

    aliases = set_up(with_postgresql)
    from sql_check import Comparison

    from django_aio.speedups.sql.shape import shape_of

    kept: Any = SQLCompiler.as_sql
    comparison, without_shape, refused = Comparison(), 0, 0
    differences, numbers = [], itertools.count()
    while comparison.compared < count:
        number = next(numbers)
        dice = random.Random(f"{seed} {number}")
        recipe = Recipe(dice)
        for alias, _ in itertools.product(aliases, range(VALUES_OF_EACH)):
            try:
                compiler = recipe.build(alias, dice).get_compiler(alias, connections[alias])
            except (*NONSENSE, FieldError, ValidationError, NotSupportedError):
                refused += 1
                continue
            if shape_of(compiler.query) is None:
                without_shape += 1
                continue
            with contextlib.suppress(Exception):  # is compared as well
                comparison.compare(compiler, kept, kept.__wrapped__)
        for difference in comparison.differences:
            differences.append(f"{seed} {number} {recipe.steps}: {difference}")
        comparison.differences.clear()
    return Found(comparison.compared, without_shape, refused, differences)


# What Django and Python say of a queryset that makes no sense.
NONSENSE = (TypeError, ValueError, AttributeError, OverflowError, decimal.InvalidOperation)


def main() -> int:
    """Fuzz in several processes. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000, help="querysets to compare")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    from servers import answers

    with_postgresql = answers("PostgreSQL")
    began = time.monotonic()
    share = options.count // options.processes
    jobs = [
        (options.seed * 1000 + process, share, with_postgresql)
        for process in range(options.processes)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        results = pool.starmap(fuzz, jobs)
    differences = [difference for each in results for difference in each.differences]
    for difference in differences[:10]:
        print(difference[:1500])
    print(
        f"{sum(each.compared for each in results)} querysets on {4 if with_postgresql else 2} "
        f"databases, seed {options.seed}, {time.monotonic() - began:.0f} s; "
        f"{sum(each.without_shape for each in results)} more without a shape, "
        f"{sum(each.refused for each in results)} refused by Django; "
        f"{len(differences)} differences."
    )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
