"""A request's context variables do not reach the next request.

A server works on from inside `send()` and `receive()`: it starts the request that was pipelined
after this one, or watches the socket again after a large upload, and what it starts inherits the
context of the caller. The next request would inherit the language, time zone, URLconf or open
transaction of this one. So `send()` and `receive()` run in a copy of the context in which the
server called the application.

Used by the task of one request. (ASGI 3.0, "Applications"; PEP 567.)
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Generator
from typing import Any


def called_in(
    context: contextvars.Context, function: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """Return `function` with each of its steps run in `context`, whoever awaits it."""

    def call(*args: Any) -> Awaitable[Any]:
        return _InContext(context, context.run(function, *args))

    return call


class _InContext:
    """An awaitable whose steps run in a context of their own."""

    __slots__ = ("_awaitable", "_context")

    def __init__(self, context: contextvars.Context, awaitable: Awaitable[Any]) -> None:
        self._context = context
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        run = self._context.run
        steps: Any = self._awaitable.__await__()
        step, values = next, (steps,)
        while True:
            try:
                waited = run(step, *values)
            except StopIteration as end:
                return end.value
            try:
                yield waited
                step, values = next, (steps,)
            except BaseException as error:
                # A server's own awaitables may have no throw(): they end with their task.
                if not hasattr(steps, "throw"):
                    raise
                step, values = steps.throw, (error,)
