"""The answer of a test function, which may have to be awaited.

A coroutine is true. A test that forgets to await one, or an `async def` where Django calls a plain
function, would let everybody in: what tests answer is awaited before anybody looks at it.
"""

from __future__ import annotations

from typing import Any

from django_aio.hooks import settled


def settle(answer: Any, name: str) -> Any:
    """Return the answer of `name`, awaited if it is awaitable.

    In the bridge the loop goes on meanwhile, and the steps of a coroutine may look at a
    `request.user` that has not been loaded yet; a plain thread waits, as Django's decorators do.
    Raises BridgeError where neither is possible, in a function that a coroutine called directly.
    """
    return settled(
        answer,
        f"{name} returned a coroutine, which cannot be awaited here: a coroutine called the view "
        "directly. Call the view with 'await run(view, request)', or let it have asynchronous "
        f"handlers and await it, or make {name} a plain function.",
    )
