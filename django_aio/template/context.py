"""Contexts: processors may be coroutine functions, and a context is freed with its page.

A context that `make_context()` made belongs to the render that asked for it. In stock Django it is
part of a reference cycle, so the model instances and forms of a page stay in memory until the
garbage collector runs: at a thousand pages a second it runs often.
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
    """`RequestContext.__init__`: adapt the processors that were passed to it."""

    @functools.wraps(upstream)
    def __init__(self: _RequestContext, *args: Any, **kwargs: Any) -> None:
        upstream(self, *args, **kwargs)
        if self._processors:
            self._processors = tuple(adapt(each, "context processor") for each in self._processors)

    return __init__


def make_context(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`make_context()`: free the context when its last user forgets it.

    Each layer refers to its context, for the end of a `with context.push():` block. No such block
    exists for the layers that a context begins with, so they need no reference.
    """

    @functools.wraps(upstream)
    def make_context(*args: Any, **kwargs: Any) -> Any:
        context = upstream(*args, **kwargs)
        for layer in context.dicts:
            if type(layer) is ContextDict:
                layer.context = None  # type: ignore[assignment]
        return context

    return make_context
