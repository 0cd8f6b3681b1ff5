"""`{% for %}` over an asynchronous iterable, such as a page of `AsyncPaginator`.

The iterable is read to its end before the loop starts, as Django reads every iterator. Asynchronous
generators need nothing here: as variables they have become lists already.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.template.base import FilterExpression
from django.template.defaulttags import ForNode

from django_aio.template.awaiting import await_variable, read_out

if TYPE_CHECKING:

    class _ForNode(ForNode):
        sequence: Any  # a `FilterExpression`, and then what stands in for it


def init_for(upstream: Callable[..., None]) -> Callable[..., None]:
    """`ForNode.__init__`: the sequence of the loop may be an asynchronous iterable."""

    @functools.wraps(upstream)
    def __init__(self: _ForNode, *args: Any, **kwargs: Any) -> None:
        upstream(self, *args, **kwargs)
        self.sequence = _Sequence(self.sequence)

    return __init__


class _Sequence:
    """The sequence of a loop: an expression whose value is read out if it is asynchronous."""

    def __init__(self, expression: FilterExpression) -> None:
        self._expression = expression

    def resolve(self, *args: Any, **kwargs: Any) -> Any:
        value = self._expression.resolve(*args, **kwargs)
        kind = type(value)
        if not hasattr(kind, "__aiter__") or hasattr(kind, "__iter__"):  # a queryset has both
            return value
        return await_variable(read_out(value), f"The sequence {self._expression}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy() asks before `_expression` is set
            raise AttributeError(name)
        return getattr(self._expression, name)

    def __str__(self) -> str:
        return str(self._expression)

    def __repr__(self) -> str:
        return repr(self._expression)
