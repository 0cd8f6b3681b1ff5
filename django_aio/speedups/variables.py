"""Variables and conditions of templates: a plain value is found by one look.

`{{ title }}` and `{{ book.title }}` are most of what a list of rows shows, and `{% if title %}`
most of what decides about it. If what they name is a plain value, in the context, in a dictionary
there or in a loaded field of a model instance, it is found by looking there, and nothing is called.
Everything else is left to Django.

What they return and raise is unchanged. Called by any thread.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from django.db.models import Model
from django.db.models.query_utils import DeferredAttribute
from django.template import base
from django.template.base import FilterExpression, VariableNode, logger
from django.template.context import Context
from django.template.defaulttags import TemplateLiteral

from django_aio.template.awaiting import PLAIN

# Where a node keeps the names that it consists of, and a model what templates may see of it.
NAMES = "_aio_names"
SHOWN = "_aio_shown"
# What `look()` says when it has found no plain value.
MISSING, UNKNOWN = object(), object()


def render(upstream: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    """`VariableNode.render()`: the text of a plain value."""

    @functools.wraps(upstream)
    def render(self: VariableNode, context: Context) -> str:
        names = _names(self, self.filter_expression)
        if names is None:
            return upstream(self, context)
        value = look(context, *names)
        if value is UNKNOWN or value is MISSING:
            return upstream(self, context)
        return base.render_value_in_context(value, context)

    return render


def evaluate(upstream: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`TemplateLiteral.eval()`: a plain value of a condition.

    One that the context does not have is None. Django finds that out by four exceptions.
    """

    @functools.wraps(upstream)
    def eval(self: TemplateLiteral, context: Context) -> Any:
        names = _names(self, self.value)
        if names is None:
            return upstream(self, context)
        value = look(context, *names)
        if value is UNKNOWN:
            return upstream(self, context)
        if value is not MISSING:
            return value
        # With logging at that level Django tells of each.
        known = not hasattr(type(context), names[0])
        return None if known and not logger.isEnabledFor(logging.DEBUG) else upstream(self, context)

    return eval


Names = tuple[str, str | None]


def _names(node: object, expression: object) -> Names | None:
    """The names that a node consists of, worked out at the first look."""
    attributes = node.__dict__
    known: tuple[Any, Names | None] | None = attributes.get(NAMES)
    if known is None or known[0] is not expression:
        known = attributes[NAMES] = expression, names_of(expression)
    return known[1]


def look(context: Context, first: str, second: str | None = None) -> Any:
    """What `first`, or `first.second`, is in a context, if it is a plain value.

    MISSING if the context has no `first`. UNKNOWN if it is for Django to find out.
    """
    try:
        value = context[first]
    except KeyError:
        return MISSING
    except Exception:
        return UNKNOWN
    if second is not None:
        value = value.get(second, UNKNOWN) if type(value) is dict else _field(value, second)
    return value if type(value) in PLAIN else UNKNOWN


def _field(value: object, name: str) -> Any:
    """What a model instance has in a field, if that is all that there is to it; else UNKNOWN."""
    own = type(value).__dict__
    fields = own.get(SHOWN)
    if fields is None:
        fields = _fields(type(value))
    field = fields.get(name)
    if field is None or type(own.get(field)) is not DeferredAttribute:
        return UNKNOWN
    return value.__dict__.get(field, UNKNOWN)


def names_of(expression: object) -> Names | None:
    """The one or two names that an expression consists of, or None if there is more to it."""
    if type(expression) is not FilterExpression or not expression.is_var or expression.filters:
        return None
    lookups = expression.var.lookups
    if not lookups or len(lookups) > 2:
        return None
    return lookups[0], lookups[1] if len(lookups) == 2 else None


def _fields(kind: type) -> dict[str, str]:
    """By what names templates can ask for the fields that a model defines, and their attributes.

    None of another class, nor of a model that answers in a way of its own. Such an attribute is no
    data descriptor, and it is the first of its name: what an instance has comes before it.
    """
    if not issubclass(kind, Model):
        return {}
    fields: dict[str, str] = {}
    # Not by getattr(): descriptors of a project's may answer to it, or fail.
    defined: dict[str, Any] = {}
    for cls in reversed(kind.__mro__[:-1]):
        defined.update(vars(cls))
    if not defined.keys() & {"__getitem__", "__call__", "__getattribute__"}:
        fields = {name: name for name, it in vars(kind).items() if type(it) is DeferredAttribute}
        if all(defined[name] is vars(Model)[name] for name in ("pk", "_get_pk_val")):
            fields["pk"] = kind._meta.pk.attname
    setattr(kind, SHOWN, fields)
    return fields
