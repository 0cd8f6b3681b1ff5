"""The answer of a test function, which may have to be awaited.

A coroutine is true. A test that forgets to await one, or an `async def` where Django calls a plain
function, would let everybody in: what tests answer is awaited before anybody looks at it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Coroutine
from typing import Any

from asgiref.sync import async_to_sync

from django_aio.bridge import BridgeError, in_bridge, run
from django_aio.utils.coroutines import finish


def settle(answer: Any, name: str) -> Any:
    """Return the answer of `name`, awaited if it is awaitable.

    In the bridge the loop goes on meanwhile; a plain thread waits, as Django's decorators do.
    Raises BridgeError where neither is possible, in a function that a coroutine called directly.
    """
    if not inspect.isawaitable(answer):
        return answer
    # Its steps run in the bridge: it may look at a `request.user` that has not been loaded yet.
    if in_bridge():
        return finish(_await(answer))
    if asyncio._get_running_loop() is None:
        return async_to_sync(run)(finish, _await(answer))
    if isinstance(answer, Coroutine):
        answer.close()
    raise BridgeError(
        f"{name} returned a coroutine, which cannot be awaited here: a coroutine called the view "
        "directly. Call the view with 'await run(view, request)', or let it have asynchronous "
        f"handlers and await it, or make {name} a plain function."
    )


async def _await(answer: Awaitable[Any]) -> Any:
    return await answer
