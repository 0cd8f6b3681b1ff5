"""Awaitables that a template reaches: they are waited for, and the template gets the result.

Inside the bridge the loop goes on meanwhile, and the steps of a coroutine run in the bridge too. In
a thread without a loop the thread waits. In synchronous code that a coroutine called directly
neither is possible: BridgeError, which names the variable.

A coroutine can be awaited once. A template may name it twice, so results are kept as long as the
render and the coroutine last. An asynchronous generator becomes the list of what it yields.

Called by the thread that renders.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
from collections.abc import AsyncIterable, Awaitable, Coroutine, MutableMapping
from types import AsyncGeneratorType, NoneType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync
from django.utils.safestring import SafeString

from django_aio.bridge import BridgeError, in_bridge, run, wait
from django_aio.utils.coroutines import finish

# What most variables are: one look tells that there is nothing to wait for.
PLAIN = frozenset(
    {str, SafeString, int, float, bool, NoneType, list, dict, tuple, set}
    | {datetime.date, datetime.datetime, decimal.Decimal}
)
REMEDY = "Render the template with 'await template.arender(...)' or 'await arender(request, ...)'."


class Outcome(NamedTuple):
    """What came of an awaitable."""

    value: Any
    error: BaseException | None

    def result(self) -> Any:
        """The value. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.value


Memo = MutableMapping[Any, Outcome]


def new_memo() -> Memo:
    """Where one render keeps results. It forgets those of coroutines that nobody holds."""
    return WeakKeyDictionary()


def is_awaitable(kind: type) -> bool:
    """Whether objects of this class are waited for. Django's lazy objects are not evaluated."""
    return kind is AsyncGeneratorType or hasattr(kind, "__await__")


def settle(thing: Any, name: str, memo: Memo | None = None, remedy: str = REMEDY) -> Any:
    """The result of an awaitable, or the list of what an asynchronous generator yields.

    `name` is what the error calls it, and `remedy` how the error ends. With `memo`, the second call
    for one awaitable returns, or raises, what the first did. Raises BridgeError where it cannot be
    waited for.
    """
    if memo is None or isinstance(thing, asyncio.Future):
        return _wait(thing, name, remedy)
    try:
        known = memo.get(thing)
    except TypeError:  # it cannot be remembered
        return _wait(thing, name, remedy)
    if known is None:
        known = memo[thing] = _outcome(thing, name, remedy)
    return known.result()


def settled(value: Any, name: str) -> Any:
    """The value itself, or its result if it is an awaitable. Raises what `settle()` raises."""
    kind = type(value)
    if kind in PLAIN or not is_awaitable(kind):
        return value
    return settle(value, name)


def _outcome(thing: Any, name: str, remedy: str) -> Outcome:
    try:
        return Outcome(_wait(thing, name, remedy), None)
    except Exception as error:
        return Outcome(None, error)


def _wait(thing: Any, name: str, remedy: str) -> Any:
    if not in_bridge() and asyncio._get_running_loop() is not None:
        if isinstance(thing, Coroutine):
            thing.close()  # or Python would warn that it was never awaited
        raise BridgeError(
            f"{name} is awaitable ({type(thing).__name__}), and synchronous code that a coroutine "
            f"called directly cannot wait for it. {remedy}"
        )
    awaitable = thing if hasattr(type(thing), "__await__") else read_out(thing)
    if in_bridge():
        return _finish(awaitable)
    return async_to_sync(_in_bridge)(awaitable)


def _finish(awaitable: Awaitable[Any]) -> Any:
    # The synchronous code that a coroutine calls may wait too.
    return finish(awaitable) if isinstance(awaitable, Coroutine) else wait(awaitable)


async def _in_bridge(awaitable: Awaitable[Any]) -> Any:
    return await run(_finish, awaitable)


async def read_out(iterable: AsyncIterable[Any]) -> list[Any]:
    """All that an asynchronous iterable yields. `{% for %}` needs to know how many there are."""
    return [item async for item in iterable]
