"""`{% for %}` over an asynchronous iterable, such as a page of `AsyncPaginator`.

It is read to its end before the loop starts, as Django reads every iterator. Asynchronous
generators need nothing here: as variables they are lists already.

And `{% if %}`: what it compares is mostly plain.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from django.template.base import logger
from django.template.defaulttags import TemplateLiteral

from django_aio.template.awaiting import read_out, settle
from django_aio.template.base import MISSING, UNKNOWN, look, names_of

EVAL = TemplateLiteral.eval


def init_for(upstream: Callable[..., None]) -> Callable[..., None]:
    """`ForNode.__init__`: what the loop is over may be asynchronous."""

    @functools.wraps(upstream)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        upstream(self, *args, **kwargs)
        self.sequence = _Sequence(self.sequence)

    return __init__


class _Sequence:
    """What a loop is over: the expression, whose value is read out if it is asynchronous."""

    def __init__(self, expression: Any) -> None:
        self._expression = expression

    def resolve(self, *args: Any, **kwargs: Any) -> Any:
        value = self._expression.resolve(*args, **kwargs)
        kind = type(value)
        if not hasattr(kind, "__aiter__") or hasattr(kind, "__iter__"):  # a queryset has both
            return value
        return settle(read_out(value), f"The sequence {self._expression}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for while it is copied
            raise AttributeError(name)
        return getattr(self._expression, name)

    def __str__(self) -> str:
        return str(self._expression)

    def __repr__(self) -> str:
        return repr(self._expression)


def create_var(upstream: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """`TemplateIfParser.create_var()`: variables that one look may find."""

    @functools.wraps(upstream)
    def create_var(self: Any, value: str) -> Any:
        literal = upstream(self, value)
        if type(literal) is TemplateLiteral and TemplateLiteral.eval is EVAL:
            names = names_of(literal.value)
            if names is not None:
                literal.__class__ = PlainLiteral
                vars(literal).update(name=names[0], attribute=names[1])
        return literal

    return create_var


class PlainLiteral(TemplateLiteral):
    """A variable of a condition, such as `user` or `book.title`: see `PlainVariableNode`.

    One that the context does not have is None. Django finds that out by four exceptions.
    """

    name: str
    attribute: str | None

    def eval(self, context: Any) -> Any:
        """The value, or None."""
        value = look(context, self.name, self.attribute)
        if value is MISSING:
            # With logging at that level Django tells of each.
            known = not hasattr(type(context), self.name)
            return None if known and not logger.isEnabledFor(logging.DEBUG) else EVAL(self, context)
        return EVAL(self, context) if value is UNKNOWN else value
