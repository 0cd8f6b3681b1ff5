"""Variables and conditions of templates: read a plain value without calling anything.

Most variables in a list of rows are like `{{ title }}` or `{{ book.title }}`, and most conditions
like `{% if title %}`. If the variable is a plain value in the context, in a dictionary there, or in
a loaded field of a model instance there, this module reads it directly. Everything else is left to
Django.

Results and errors are unchanged. Called by any thread.
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

# The attribute of a node with the names in it, and that of a model with what templates may read.
NAMES = "_aio_names"
SHOWN = "_aio_shown"
# Results of `look()` if it has not found a plain value.
MISSING, UNKNOWN = object(), object()


def render(upstream: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    """`VariableNode.render()`: return the text of a plain value."""

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
    """`TemplateLiteral.eval()`: return the plain value of a condition.

    A name that the context does not have gives None. Django takes four exceptions to find that out.
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
        # At level DEBUG, Django logs each missing name.
        known = not hasattr(type(context), names[0])
        return None if known and not logger.isEnabledFor(logging.DEBUG) else upstream(self, context)

    return eval


Names = tuple[str, str | None]


def _names(node: object, expression: object) -> Names | None:
    """Return the names in a node, computed once for each node."""
    attributes = node.__dict__
    known: tuple[Any, Names | None] | None = attributes.get(NAMES)
    if known is None or known[0] is not expression:
        known = attributes[NAMES] = expression, names_of(expression)
    return known[1]


def look(context: Context, first: str, second: str | None = None) -> Any:
    """Return the value of `first`, or of `first.second`, in a context, if it is a plain value.

    MISSING if the context has no `first`. UNKNOWN if Django must find the value.
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
    """Return the value of a loaded field of a model instance; UNKNOWN for anything else."""
    own = type(value).__dict__
    fields = own.get(SHOWN)
    if fields is None:
        fields = _fields(type(value))
    field = fields.get(name)
    if field is None or type(own.get(field)) is not DeferredAttribute:
        return UNKNOWN
    return value.__dict__.get(field, UNKNOWN)


def names_of(expression: object) -> Names | None:
    """Return the one or two names of an expression, or None if it consists of more."""
    if type(expression) is not FilterExpression or not expression.is_var or expression.filters:
        return None
    lookups = expression.var.lookups
    if not lookups or len(lookups) > 2:
        return None
    return lookups[0], lookups[1] if len(lookups) == 2 else None


def _fields(kind: type) -> dict[str, str]:
    """Return the names by which templates may read the fields of a model, with their attributes.

    Empty for a class that is not a model, and for a model that defines `__getitem__`, `__call__` or
    `__getattribute__`. Only attributes that the class itself defines as `DeferredAttribute`: these
    are not data descriptors, and no other class comes before, so a value in the instance's
    `__dict__` wins.
    """
    if not issubclass(kind, Model):
        return {}
    fields: dict[str, str] = {}
    # Without getattr(), to which a project's descriptors may react, or fail.
    defined: dict[str, Any] = {}
    for cls in reversed(kind.__mro__[:-1]):
        defined.update(vars(cls))
    if not defined.keys() & {"__getitem__", "__call__", "__getattribute__"}:
        fields = {name: name for name, it in vars(kind).items() if type(it) is DeferredAttribute}
        if all(defined[name] is vars(Model)[name] for name in ("pk", "_get_pk_val")):
            fields["pk"] = kind._meta.pk.attname
    setattr(kind, SHOWN, fields)
    return fields
