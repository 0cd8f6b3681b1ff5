"""Coroutine functions of Django's that call synchronous code which would block.

Some of Django's coroutines call plain functions that hash a password or read a file. `bridged()`
runs such a coroutine inside the bridge, from its first step to its last, so that what these
functions wait for lets the loop go on. What the coroutine awaits is awaited by the task that
awaits it: cancellation, timeouts and context variables behave as in stock Django.

Called in the thread of the loop that awaits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from asgiref.sync import markcoroutinefunction

from django_aio.bridge import run, wait
from django_aio.parts import unbound

CoroutineFunction = Callable[..., Coroutine[Any, Any, Any]]


class Step:
    """What a coroutine yields to the loop, as something that can be waited for. Used once."""

    def __init__(self, yielded: Any) -> None:
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._yielded)


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end from inside the bridge, its own steps inside the bridge too.

    Returns what it returns and raises what it raises.
    """
    resume: Callable[[Any], Any] = coroutine.send
    value: Any = None
    try:
        while True:
            yielded = resume(value)
            try:
                resume, value = coroutine.send, wait(Step(yielded))
            except BaseException as error:  # raised in the coroutine, where it waits
                resume, value = coroutine.throw, error
    except StopIteration as stop:
        return stop.value
    finally:
        # The traceback of an error holds this frame: the two would keep each other alive.
        del value


def bridged(upstream: Any) -> Any:
    """The coroutine function or class method `upstream`, whose synchronous calls may wait."""
    if isinstance(upstream, classmethod):
        return classmethod(bridged(unbound(upstream)))

    # Not a coroutine function itself: its frame would show the arguments, a password, say, in the
    # report of an error.
    @functools.wraps(upstream)
    def call(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return run(finish, upstream(*args, **kwargs))

    return markcoroutinefunction(call)
