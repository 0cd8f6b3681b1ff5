"""Compiles every query afresh beside the SQL that was kept for it, and compares.

`watch()` does so for every query of the process: for `runtests.py --upstream --verify-sql` and
`fuzz_sql.py`.
"""

from __future__ import annotations

import functools
from typing import Any

from django.db.models.sql.compiler import SQLCompiler

from django_aio.speedups.sql.shape import shape_of

# What compiling leaves for who reads the rows.
LEFT = ("annotation_col_map", "col_count", "has_extra_select")


class Comparison:
    """What was compared, and what differed."""

    def __init__(self) -> None:
        self.compared = 0
        self.differences: list[str] = []

    def compare(self, compiler: Any, kept: Any, upstream: Any) -> Any:
        """Compile in both ways. Returns, or raises, what the kept way does."""
        query = compiler.query.clone()
        fresh = type(compiler)(query, compiler.connection, compiler.using, compiler.elide_empty)
        expected, _ = _outcome(fresh, upstream)
        found, result = _outcome(compiler, kept)
        self.compared += 1
        if found != expected:
            self.differences.append(f"kept:   {found}\nDjango: {expected}")
        if isinstance(result, Exception):
            raise result
        return result


def _outcome(compiler: Any, as_sql: Any) -> tuple[Any, Any]:
    """All that compiling gives, the types of parameters included; and its result, or its error."""
    try:
        sql, params = result = as_sql(compiler)
    except Exception as error:
        return type(error), error
    columns = [(type(column), *map(str, rest), repr(column)) for column, *rest in compiler.select]
    left = [getattr(compiler, name) for name in LEFT]
    return (sql, [_described(value) for value in params], columns, left), result


def _described(value: Any) -> tuple[type, str]:
    """What can be compared of a parameter: some of the drivers' types are equal to nothing."""
    return type(value), repr(bytes(value) if isinstance(value, memoryview) else value)


def watch(comparison: Comparison) -> None:
    """Compare every query that has a shape from now on. The series is applied."""
    kept: Any = SQLCompiler.as_sql
    upstream = kept.__wrapped__

    @functools.wraps(kept)
    def as_sql(self: Any, with_limits: bool = True, with_col_aliases: bool = False) -> Any:
        if with_col_aliases or not with_limits or shape_of(self.query) is None:
            return kept(self, with_limits, with_col_aliases)
        return comparison.compare(self, kept, upstream)

    SQLCompiler.as_sql = as_sql  # type: ignore[method-assign]
