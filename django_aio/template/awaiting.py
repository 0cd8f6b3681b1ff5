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
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, MutableMapping
from types import AsyncGeneratorType, NoneType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from django.utils.safestring import SafeString

from django_aio.awaiting import await_value

# What most variables are: one look tells that there is nothing to wait for.
PLAIN = frozenset(
    {str, SafeString, int, float, bool, NoneType, list, dict, tuple, set}
    | {datetime.date, datetime.datetime, decimal.Decimal}
)
REMEDY = "Render the template with 'await template.arender(...)' or 'await arender(request, ...)'."


# What `is_awaitable()` is true of.
Waited = Awaitable[Any] | AsyncGenerator[Any, None]


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


def await_variable(thing: Waited, name: str, memo: Memo | None = None, remedy: str = REMEDY) -> Any:
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


def await_result(value: Any, name: str) -> Any:
    """The value, or its result if it is awaitable. Raises what `await_variable()` raises."""
    kind = type(value)
    if kind in PLAIN or not is_awaitable(kind):
        return value
    return await_variable(value, name)


def _outcome(thing: Waited, name: str, remedy: str) -> Outcome:
    try:
        return Outcome(_wait(thing, name, remedy), None)
    except Exception as error:
        return Outcome(None, error)


def _wait(thing: Waited, name: str, remedy: str) -> Any:
    return await_value(
        read_out(thing) if type(thing) is AsyncGeneratorType else thing,
        f"{name} is awaitable ({type(thing).__name__}), and synchronous code that a coroutine "
        f"called directly cannot wait for it. {remedy}",
    )


async def read_out(iterable: AsyncIterable[Any]) -> list[Any]:
    """All that an asynchronous iterable yields. `{% for %}` needs to know how many there are."""
    return [item async for item in iterable]
