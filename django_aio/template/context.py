"""Contexts: processors of either colour, and an end with the page.

A context that `make_context()` made belongs to the render that asked for it. Upstream it is part of
a reference cycle, and so what a page showed, its model instances and forms, stays in memory until
the garbage collector comes: at a thousand pages a second it comes often.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.template.context import ContextDict, RequestContext

from django_aio.template.calls import adapt

if TYPE_CHECKING:

    class _RequestContext(RequestContext):
        _processors: tuple[Callable[..., dict[str, Any]], ...]


def init_request_context(upstream: Callable[..., None]) -> Callable[..., None]:
    """`RequestContext.__init__`: its own processors, adapted."""

    @functools.wraps(upstream)
    def __init__(self: _RequestContext, *args: Any, **kwargs: Any) -> None:
        upstream(self, *args, **kwargs)
        if self._processors:
            self._processors = tuple(adapt(each, "context processor") for each in self._processors)

    return __init__


def make_context(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`make_context()`: the context is freed when its last user forgets it.

    Each of its layers refers to it for the end of a `with context.push():` block. Of the layers
    that it begins with nobody has the block.
    """

    @functools.wraps(upstream)
    def make_context(*args: Any, **kwargs: Any) -> Any:
        context = upstream(*args, **kwargs)
        for layer in context.dicts:
            if type(layer) is ContextDict:
                layer.context = None  # type: ignore[assignment]
        return context

    return make_context
