"""What a request leaves in its context is not the next one's.

A server goes on from inside `send()` and `receive()`: it starts the request that was pipelined
behind this one, or watches the socket again after a large upload, and what it starts inherits the
context of whoever called. Language, time zone, URLconf, an open transaction of one request would be
the next one's. So the server is called in the context that it called us in, as it was then.

Used by the task of one request. (ASGI 3.0, "Applications"; PEP 567.)
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Generator
from typing import Any


def called_in(
    context: contextvars.Context, function: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """`function`, each step of which runs in `context`, whoever awaits it."""

    def call(*args: Any) -> Awaitable[Any]:
        return _Elsewhere(context, context.run(function, *args))

    return call


class _Elsewhere:
    """An awaitable of another context."""

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
                # A server's own awaitables need not take an error: they end with their task.
                if not hasattr(steps, "throw"):
                    raise
                step, values = steps.throw, (error,)
