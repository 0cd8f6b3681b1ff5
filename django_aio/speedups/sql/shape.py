"""The shape of a query: everything that its SQL depends on, without the values in its conditions.

`Author.objects.filter(name="Ada")` and `filter(name="Grace")` have the same shape: the same SQL
with another parameter. `shape_of()` returns the shape as a key for a dictionary, and the lookups
that give the parameters.

This module knows the parts of most queries: columns, joins, comparisons with plain values, ordering
by name, plain aggregates. A query with any other part has no shape, be it an attribute of `Query`
or a class of Django that is not named here. A shape is never guessed.

Fields go into the key by identity. A cache must keep the objects in `Shape.held` as long as the
key, so that no other object can get the same identity.

Called by the thread that compiles the query; nothing here is shared.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from django.db.models import aggregates, lookups
from django.db.models.expressions import Col, Star, Value
from django.db.models.fields import related_lookups
from django.db.models.lookups import Lookup
from django.db.models.sql.datastructures import BaseTable, Join
from django.db.models.sql.query import Query
from django.db.models.sql.where import WhereNode


class NoShapeError(Exception):
    """The query has a part that is not known here."""


class Shape(NamedTuple):
    """The result of `shape_of()`."""

    key: Hashable
    lookups: list[Lookup[Any]]  # those that give parameters, in the order of the WHERE clause
    held: list[Any]  # objects that are in the key by identity


# Attributes that go into the key as they are.
PLAIN = (
    *("model", "default_cols", "default_ordering", "standard_ordering", "values_select"),
    *("low_mark", "high_mark", "distinct", "distinct_fields", "max_depth"),
)
# Attributes that must have the values of a new query.
UNSET = (
    *("alias_cols", "external_aliases", "extra", "extra_tables"),
    *("extra_order_by", "_filtered_relations", "subquery", "select_for_update", "combinator"),
    *("combined_queries", "explain_info"),
    *(name for name in ("contains_subquery",) if hasattr(Query, name)),  # since Django 6.1
)
# Attributes whose parts go into the key.
PARTS = {
    *("alias_map", "alias_refcount", "annotations", "annotation_select_mask"),
    *("deferred_loading", "group_by", "order_by", "select", "select_related", "selected"),
    "where",
}
# Attributes that follow from the others, or only affect how the query is built further.
IDLE = {
    *("_annotation_select_cache", "_extra_select_cache", "_lookup_joins", "base_table"),
    *("extra_select_mask", "filter_is_sticky", "table_map", "used_aliases"),
}
KNOWN = {*PLAIN, *UNSET, *PARTS, *IDLE}

_plain = attrgetter(*PLAIN)
_unset = attrgetter(*UNSET)
_NEW = _unset(Query(None))

# Types whose values make no difference to the SQL.
VALUES = frozenset(
    {int, str, float, bytes, decimal.Decimal, uuid.UUID}
    | {datetime.date, datetime.datetime, datetime.time, datetime.timedelta}
)
# Each length of a list is a shape: longer lists would fill the memory with placeholders.
MOST_VALUES = 100
# Lookups that compare a column with one value, or with several. Exactly these classes: the SQL of
# a subclass may depend on the value.
COMPARISONS = frozenset(
    found
    for module, names in (
        (lookups, ("Exact", "IExact", "GreaterThan", "GreaterThanOrEqual")),
        (lookups, ("LessThan", "LessThanOrEqual", "In", "Range")),
        (lookups, ("Contains", "IContains", "StartsWith", "IStartsWith", "EndsWith", "IEndsWith")),
        (lookups, ("IntegerFieldExact", "IntegerGreaterThan", "IntegerGreaterThanOrEqual")),
        (lookups, ("IntegerLessThan", "IntegerLessThanOrEqual")),
        (related_lookups, ("RelatedExact", "RelatedIn", "RelatedGreaterThan")),
        (related_lookups, ("RelatedGreaterThanOrEqual", "RelatedLessThan")),
        (related_lookups, ("RelatedLessThanOrEqual",)),
    )
    for name in names
    if (found := getattr(module, name, None))
)
NULLS = frozenset({lookups.IsNull, related_lookups.RelatedIsNull})
LOOKUPS = COMPARISONS | NULLS
AGGREGATES = frozenset(
    {aggregates.Avg, aggregates.Count, aggregates.Max, aggregates.Min, aggregates.Sum}
)


def shape_of(query: Query) -> Shape | None:
    """Return the shape of a query, or None if it has none."""
    if type(query) is not Query or _unset(query) != _NEW or not vars(query).keys() <= KNOWN:
        return None
    found: list[Lookup[Any]] = []
    held: list[Any] = []
    try:
        key = (
            _plain(query),
            _deferred(*query.deferred_loading),
            _ordering(query.order_by),
            _joins(query, held),
            _columns(query.select, held),
            None if query.selected is None else _selected(query.selected),
            _relations(query.select_related),
            _annotations(query, held),
            _groups(query.group_by, held),
            _where(query.where, found, held),
        )
    except NoShapeError:
        return None
    return Shape(key, found, held)


def _deferred(names: Collection[str], defer: bool) -> Hashable:
    """The names in `defer()` or `only()`, as a set that cannot change, and which of the two."""
    return frozenset(names) if names else None, defer


def _ordering(order_by: Sequence[object]) -> Hashable:
    if not all(type(name) is str for name in order_by):
        raise NoShapeError
    return tuple(order_by)


def _joins(query: Query, held: list[Any]) -> Hashable:
    """The tables, with their reference counts: a table without references is not in the SQL."""
    joins: list[Hashable] = []
    counts = query.alias_refcount
    for alias, join in query.alias_map.items():
        if type(join) is BaseTable:
            joins.append((alias, join.table_name, join.table_alias, counts[alias]))
        elif type(join) is Join and join.filtered_relation is None:
            held.append(join.join_field)
            joins.append(
                (
                    *(alias, join.table_name, join.table_alias, counts[alias]),
                    *(join.parent_alias, join.join_type, join.nullable, id(join.join_field)),
                )
            )
        else:
            raise NoShapeError
    return tuple(joins)


def _column(column: object, held: list[Any]) -> Hashable:
    if type(column) is not Col:
        raise NoShapeError
    target, field = column.target, column.output_field
    held.append(target)
    if field is target:
        return column.alias, id(target)
    held.append(field)
    return column.alias, id(target), id(field)


def _groups(group_by: Iterable[object] | Literal[True] | None, held: list[Any]) -> Hashable:
    """No groups, those of the selected columns (True), or columns."""
    return group_by if group_by is None or group_by is True else _columns(group_by, held)


def _columns(columns: Iterable[object], held: list[Any]) -> Hashable:
    return tuple([_column(column, held) for column in columns])


def _selected(selected: Mapping[str, Any]) -> Hashable:
    """The order of the columns of `values()`: names of annotations and indexes of `select`."""
    for what in selected.values():
        if type(what) not in (int, str):
            raise NoShapeError
    return tuple(selected.items())


def _relations(select_related: bool | Mapping[str, Any]) -> Hashable:
    if isinstance(select_related, bool):
        return select_related
    return tuple([(name, _relations(below)) for name, below in select_related.items()])


def _annotations(query: Query, held: list[Any]) -> Hashable:
    if not query.annotations:
        return ()
    mask = query.annotation_select_mask
    parts = []
    for name, expression in query.annotations.items():
        selected = mask is None or name in mask
        parts.append((name, selected, _expression(expression, held)))
    return tuple(parts), None if mask is None else _of_mask(mask)


def _of_mask(mask: Collection[str]) -> Hashable:
    return frozenset(mask) if isinstance(mask, set) else tuple(mask)


def _expression(expression: Any, held: list[Any]) -> Hashable:
    """A column, a constant, or a plain aggregate of a column or of `*`."""
    kind = type(expression)
    if kind is Col:
        return _column(expression, held)
    arguments, options = getattr(expression, "_constructor_args", ((), {}))
    if kind is Value and type(expression.value) in (int, str) and len(arguments) == 1:
        if options:
            raise NoShapeError
        return kind, type(expression.value), expression.value
    if kind not in AGGREGATES or not options.keys() <= {"distinct"} or len(arguments) != 1:
        raise NoShapeError
    source, *others = expression.get_source_expressions()
    if any(other is not None for other in others):
        raise NoShapeError
    of = "*" if type(source) is Star else _column(source, held)
    return kind, expression.distinct, expression.is_summary, of


def gives_parameters(lookup: Lookup[Any]) -> bool:
    """Whether a lookup has parameters: a comparison with True is only the column itself."""
    return type(lookup.rhs) is not bool


def _where(node: WhereNode, found: list[Lookup[Any]], held: list[Any]) -> Hashable:
    parts: list[Any] = [node.connector, node.negated]
    children: list[Any] = node.children
    for child in children:
        kind = type(child)
        if kind is WhereNode:
            parts.append(_where(child, found, held))
            continue
        if kind not in LOOKUPS:
            raise NoShapeError
        value: Any = child.rhs
        of: Any = type(value)
        if not gives_parameters(child):
            parts.append((kind, _column(child.lhs, held), bool, value))
            continue
        if of is list and len(value) <= MOST_VALUES and VALUES.issuperset(map(type, value)):
            of = list, len(value)
        elif of not in VALUES:
            raise NoShapeError
        if kind in NULLS or child.bilateral_transforms:
            raise NoShapeError
        found.append(child)
        parts.append((kind, _column(child.lhs, held), of))
    return tuple(parts)
