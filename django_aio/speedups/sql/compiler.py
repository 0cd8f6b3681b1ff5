"""`SQLCompiler.as_sql`: cache the SQL of queries by their shape.

For a page with few rows, a fifth of Django's time goes into building SQL, and the result is nearly
always the same: views make the same queries with other values. The cache maps the shape of a query
(`shape.py`) to its SQL. The values are prepared for each query, by Django's own lookups.

Each entry was verified when it was made: the query was compiled a second time with a mark in the
place of each value. The marks show where the values stand among the parameters (two values may be
equal), and that the SQL does not depend on the values. All other parameters must be constants,
which are part of the shape. A query that fails this check is compiled every time. An entry is valid
for one alias of `DATABASES`, and as long as the fields, the table and the ordering of the models
involved do not change.

The cache contains no values of a query. Called by any thread; an entry is never changed.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import BaseExpression, Col, Value
from django.db.models.lookups import Lookup
from django.db.models.options import Options
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.query import Query
from django.db.models.sql.where import WhereNode

from django_aio.speedups.bounded import keep
from django_aio.speedups.sql.shape import Shape, gives_parameters, shape_of

if TYPE_CHECKING:

    class _Compiler(SQLCompiler):
        elide_empty: bool


Marked = TypeVar("Marked", bound=BaseExpression)
AsSQL = Callable[..., tuple[str, Any]]

# A site has some hundred shapes. Only shapes that differ by a page number, or by the number of
# values in a list, are unlimited.
MAX_KEPT = 1000

# The attribute of a compiler whose rows need no conversion: its columns.
AS_THEY_ARE = "_aio_as_they_are"

# Attributes that compiling sets in the compiler, for the code that reads the rows.
RESULTS = ("select", "klass_info", "annotation_col_map", "col_count", "has_extra_select")


class Places(NamedTuple):
    """The parameters of a statement, in their order."""

    before: list[Any]  # constants, as the driver gets them
    placeholders: list[Any]  # one for each lookup; the values of all lookups stand together here
    after: list[Any]  # constants


class Compiled:
    """The SQL of one shape, and the data for reading its rows. Read by any thread."""

    __slots__ = ("after", "before", "held", "models", "placeholders", "results", "settings", "sql")

    def __init__(self, compiler: SQLCompiler, sql: str, held: list[Any], places: Places) -> None:
        self.sql = sql
        self.before, self.placeholders, self.after = places
        self.results = {name: getattr(compiler, name) for name in RESULTS}
        columns = [column for column, _, _ in compiler.select]
        if not compiler.get_converters(columns):
            self.results[AS_THEY_ARE] = columns
        self.settings = compiler.connection.settings_dict
        self.models = [(model._meta, *_facts(model._meta)) for model in _models(compiler)]
        self.held = held

    def holds(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the models and the database are unchanged."""
        if connection.settings_dict is not self.settings:
            return False
        for meta, fields, ordering, table in self.models:
            if (
                meta.concrete_fields is not fields
                or meta.ordering is not ordering
                or meta.db_table != table
            ):
                return False
        return True

    def parameters(self, compiler: SQLCompiler, lookups: list[Lookup[Any]]) -> list[Any] | None:
        """Return the parameters for these lookups, or None if these values need other SQL.

        For example, Django omits a lookup whose value no row can have.
        """
        values = list(self.before)
        try:
            for lookup, known in zip(lookups, self.placeholders, strict=True):
                placeholder, prepared = lookup.process_rhs(compiler, compiler.connection)
                if placeholder != known:
                    return None
                values.extend(prepared)
        except (EmptyResultSet, FullResultSet):
            return None
        values.extend(self.after)
        return values


_kept: dict[Any, Compiled | None] = {}


@functools.cache
def _is_djangos(cls: type[SQLCompiler]) -> bool:
    """Whether a compiler is Django's, for plain queries on one of Django's engines."""
    return cls.as_sql is SQLCompiler.as_sql and bool(cls.__module__.startswith("django."))


def as_sql(upstream: AsSQL) -> AsSQL:
    """`SQLCompiler.as_sql`: look into the cache first (see the module's docstring)."""

    @functools.wraps(upstream)
    def as_sql(
        self: _Compiler, with_limits: bool = True, with_col_aliases: bool = False
    ) -> tuple[str, Any]:
        shape = None
        kind: Any = type(self)
        if with_limits and not with_col_aliases and _is_djangos(kind):
            shape = shape_of(self.query)
        if shape is None:
            return upstream(self, with_limits, with_col_aliases)
        connection = self.connection
        key = type(connection), connection.alias, self.elide_empty, shape.key
        known = _kept.get(key, _MISSING)
        if known is None:
            return upstream(self)
        if known is not _MISSING and known.holds(connection):
            values = known.parameters(self, shape.lookups)
            if values is None:
                return upstream(self)
            vars(self).update(known.results)
            _name_table(self.query)
            return known.sql, tuple(values)
        sql, params = upstream(self)
        with contextlib.suppress(EmptyResultSet, FullResultSet):  # as in parameters()
            keep(_kept, key, _compiled(self, upstream, shape, sql, params), MAX_KEPT)
        return sql, params

    return as_sql


def get_converters(upstream: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`SQLCompiler.get_converters`: the columns of a cached query are known to need none."""

    @functools.wraps(upstream)
    def get_converters(self: SQLCompiler, expressions: Iterable[BaseExpression]) -> Any:
        plain = getattr(self, AS_THEY_ARE, None)
        if plain is not None and type(expressions) is list and expressions == plain:
            return {}
        return upstream(self, expressions)

    return get_converters


_MISSING: Any = object()


def _name_table(query: Query) -> None:
    """Give the table of the query's model an alias, as compiling the query does."""
    if not query.alias_map and (alias := query.get_initial_alias()):
        query.unref_alias(alias)


def _compiled(
    compiler: _Compiler, upstream: AsSQL, shape: Shape, sql: str, params: Sequence[Any]
) -> Compiled | None:
    """Return the cache entry of a compiled query. None if it must be compiled every time."""
    if not type(compiler.connection).__module__.startswith("django."):
        return None
    places = _places(compiler, upstream, shape.lookups, sql, params)
    if places is None:
        return None
    columns = [each.target for each, _, _ in compiler.select if type(each) is Col]
    if any(_decides(field, "select_format", "get_col", "get_db_converters") for field in columns):
        return None
    if any(_decides(field, "get_extra_restriction") for field in _joined(compiler.query)):
        return None
    return Compiled(compiler, sql, shape.held, places)


def _places(
    compiler: _Compiler,
    upstream: AsSQL,
    lookups: list[Lookup[Any]],
    sql: str,
    params: Sequence[Any],
) -> Places | None:
    """Find out where the values stand among the parameters.

    None if the SQL depends on the values, if they do not stand together, or if a parameter belongs
    neither to them nor to a constant of the shape.
    """
    query, connection = compiler.query.clone(), compiler.connection
    placeholders, marked = [], []
    values: list[Any] = []
    marks: list[object] = []
    for lookup in lookups:
        placeholder, prepared = lookup.process_rhs(compiler, connection)
        placeholders.append(placeholder)
        values.extend(prepared)
        marked.append(_marked(lookup, "process_rhs", placeholder, prepared, marks))
    query.where = _with_lookups(query.where, iter(marked))
    constants: list[object] = []
    for name, constant in query.annotations.items():
        if type(constant) is Value:
            made = constant.as_sql(compiler, connection)
            query.annotations[name] = _marked(constant, "as_sql", *made, constants)
    query._annotation_select_cache = None  # type: ignore[attr-defined]
    again = type(compiler)(query, connection, compiler.using, compiler.elide_empty)
    sql_again, found = upstream(again)
    begin = next((at for at, each in enumerate(found) if each in marks), len(found))
    end = begin + len(marks)
    others = {*map(id, [*found[:begin], *found[end:]])}
    if (
        sql_again != sql
        or [*map(id, found[begin:end])] != [*map(id, marks)]
        or not others <= {*map(id, constants)}
        or [*map(_typed, params[begin:end])] != [*map(_typed, values)]
    ):
        return None
    return Places(list(params[:begin]), placeholders, list(params[end:]))


def _marked(
    expression: Marked, method: str, sql: str, params: Sequence[Any], marks: list[object]
) -> Marked:
    """Return a copy of a lookup or constant that gives marks instead of its values."""
    own = [object() for _ in params]
    marks.extend(own)
    marked = copy.copy(expression)
    setattr(marked, method, lambda compiler, connection: (sql, list(own)))
    return marked


def _with_lookups(node: WhereNode, lookups: Iterator[Lookup[Any]]) -> WhereNode:
    """Return a copy of a WHERE clause with other lookups, in the order of `Shape.lookups`."""
    changed = node.clone()
    children: list[Any] = node.children
    changed_children: list[Any] = [
        _with_lookups(child, lookups)
        if type(child) is WhereNode
        else next(lookups)
        if gives_parameters(child)
        else child
        for child in children
    ]
    changed.children = changed_children
    return changed


def _typed(value: object) -> tuple[type, object]:
    # Equal values of different types are not the same for a driver.
    return type(value), value


def _decides(field: object, *names: str) -> bool:
    """Whether one of these methods of a field is not Django's: its result may change."""
    methods = (getattr(type(field), name) for name in names)
    return not all(method.__module__.startswith("django.") for method in methods)


def _facts(meta: Options[Any]) -> tuple[Any, Any, str]:
    """Return the parts of a model that its SQL depends on and that code may change."""
    return meta.concrete_fields, meta.ordering, meta.db_table


def _models(compiler: SQLCompiler) -> set[Any]:
    """Return the models whose columns, joins and ordering the query uses."""
    models = {compiler.query.model}
    for field in _joined(compiler.query):
        models |= {field.model, field.related_model}
    return {model for model in models if hasattr(model, "_meta")}


def _joined(query: Query) -> list[Any]:
    """Return the relations of a compiled query, also those of `select_related()` and ordering."""
    return [join.join_field for join in query.alias_map.values() if hasattr(join, "join_field")]


def forget() -> None:
    """Empty the cache. For tests that change models or fields in ways it does not notice."""
    _kept.clear()
