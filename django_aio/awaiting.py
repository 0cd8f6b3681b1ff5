"""Synchronous code waits for the awaitable that a user's function returned.

Django calls a plain function, but a project has put a coroutine function there, or one that returns
an awaitable. `await_value()` waits for the result, and `await_call()` makes the call as well:

- Inside the bridge the loop goes on meanwhile. The steps of the coroutine run in the bridge too, so
  that the synchronous methods which it calls may wait.
- A thread without a loop waits, as it does in stock Django.
- Synchronous code that a coroutine called directly cannot wait: BridgeError.

`bridged()` is for the opposite case, Django's coroutine functions whose synchronous calls would
block (they hash a password, read a file). Cancellation, timeouts and context variables are those of
the task that awaits.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from asgiref.sync import async_to_sync, markcoroutinefunction

from django_aio.bridge import BridgeError, in_bridge, run, wait
from django_aio.policy.parts import unbound

CoroutineFunction = Callable[..., Coroutine[Any, Any, Any]]


def await_value(value: object, message: str) -> Any:
    """Return `value`, which a user's function returned, or its result if it is awaitable.

    Raises what awaiting it raises, and BridgeError, with the message, where nothing may wait; a
    coroutine is then closed. Any thread may call this.
    """
    if not inspect.isawaitable(value):
        return value
    try:
        return await_call(functools.partial(_await, value), message)
    except BridgeError:
        if inspect.iscoroutine(value):
            value.close()
        raise


def await_call(call: Callable[[], Coroutine[Any, Any, Any]], message: str) -> Any:
    """Call a coroutine function and return its result.

    Raises BridgeError, with the message, where nothing may wait; `call` is then not called. Any
    thread may call this.
    """
    if in_bridge():
        return drive(call())
    if asyncio._get_running_loop() is None:
        return async_to_sync(_drive_in_bridge)(call)
    raise BridgeError(message)


async def _await(value: Awaitable[Any]) -> Any:
    return await value


async def _drive_in_bridge(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return await run(drive, call())


class Step:
    """An awaitable for what a coroutine yielded to the loop. Used once."""

    def __init__(self, yielded: object) -> None:
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._yielded)


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
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
        # The traceback of an error holds this frame, and this variable may hold the error.
        del value


def bridged(upstream: CoroutineFunction | classmethod[Any, Any, Any]) -> Any:
    """Return the coroutine function or class method `upstream`, run in the bridge as a whole.

    Its synchronous calls may wait. Same arguments, result and errors.
    """
    if isinstance(upstream, classmethod):
        return classmethod(bridged(unbound(upstream)))

    # A plain function, as the frame of a coroutine would show the arguments, which may be a
    # password, in error reports.
    @functools.wraps(upstream)
    def call(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return run(drive, upstream(*args, **kwargs))

    return markcoroutinefunction(call)
