"""Awaitables that a template reaches: the render waits for them, and the template gets the result.

Inside the bridge the event loop goes on meanwhile, and the steps of a coroutine run in the bridge
too. In a thread without a loop the thread waits. Synchronous code that a coroutine called directly
can do neither: it gets a BridgeError, which names the variable.

A coroutine can be awaited only once, but a template may name it twice. Its result is therefore kept
as long as both the render and the coroutine exist. An asynchronous generator becomes the list of
the items that it yields.

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

# The types of most variables: a look at the type shows that there is nothing to wait for.
PLAIN = frozenset(
    {str, SafeString, int, float, bool, NoneType, list, dict, tuple, set}
    | {datetime.date, datetime.datetime, decimal.Decimal}
)
REMEDY = "Render the template with 'await template.arender(...)' or 'await arender(request, ...)'."


# Objects whose class `is_awaitable()`.
Waited = Awaitable[Any] | AsyncGenerator[Any, None]


class Outcome(NamedTuple):
    """The result of an awaitable, or the error that it raised."""

    value: Any
    error: BaseException | None

    def result(self) -> Any:
        """Return the value, or raise the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.value


Memo = MutableMapping[Any, Outcome]


def new_memo() -> Memo:
    """Return the memory of one render. It forgets the results of coroutines that are gone."""
    return WeakKeyDictionary()


def is_awaitable(kind: type) -> bool:
    """Whether templates wait for objects of this class. Does not evaluate Django's lazy objects."""
    return kind is AsyncGeneratorType or hasattr(kind, "__await__")


def await_variable(thing: Waited, name: str, memo: Memo | None = None, remedy: str = REMEDY) -> Any:
    """Return the result of an awaitable, or the list of what an asynchronous generator yields.

    `name` is the name of the variable in the error message, and `remedy` the end of that message.
    With `memo`, a second call for the same awaitable returns, or raises, what the first call did.
    Raises BridgeError in synchronous code that a coroutine called directly.
    """
    if memo is None or isinstance(thing, asyncio.Future):
        return _wait(thing, name, remedy)
    try:
        known = memo.get(thing)
    except TypeError:  # not hashable, or without weak references
        return _wait(thing, name, remedy)
    if known is None:
        known = memo[thing] = _outcome(thing, name, remedy)
    return known.result()


def await_result(value: Any, name: str) -> Any:
    """Return the value, or its result if it is awaitable. Raises as `await_variable()` does."""
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
    """Return all items of an asynchronous iterable. `{% for %}` needs to know their number."""
    return [item async for item in iterable]
