"""Asynchronous generators that are left while they hold a transaction.

The loop closes a generator that is left by `break`, a little later and in a task of its own. If the
generator holds an open `atomic()` block, its consumer's statements in between would still be in
that block, and be rolled back with it. So the loop's finaliser of generators is wrapped: a block
whose generator is about to be closed is `abandoned`, and every other statement waits its turn until
the block has ended. (Python documentation, `sys.set_asyncgen_hooks()`; PEP 525.)

The finaliser's task also gets the right context: it ends its own block, and a generator that the
garbage collector found in the middle of somebody else's block does not join that block.

A generator keeps the finaliser that was set when it was first advanced, so one that was advanced
before anything here ran on its loop is not known. A block that such a generator may hold is
`unwatched`: before a statement in it is sent, the loop goes on for as many turns as it takes to
begin closing the generator. Guarded by `tests/db/test_generators.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import sys
from collections.abc import AsyncGenerator, Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from django_aio.bridge import in_bridge, outer_frame, wait
from django_aio.db.blocks import Block, closing, held, innermost

if TYPE_CHECKING:
    from django_aio.db.chains import Chain

# A frame of these kinds is called by the one that awaits it.
AWAITED = (
    inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_GENERATOR
)

# How many frames may lie between the entry of a block and the generator whose `with` statement
# enters it: an ExitStack or a context manager adds some.
NEAR = 4

# How many turns of the loop lie between leaving a generator and the first step of its closing.
TURNS = 2


class Finaliser:
    """The `finalizer` of `sys.set_asyncgen_hooks()`, for one loop of one thread."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: Callable[[Any], object]) -> None:
        self._upstream = upstream

    def __call__(self, generator: AsyncGenerator[Any]) -> None:
        """Close a generator whose last reference has gone before its end. Any thread."""
        found = held.get(id(getattr(generator, "ag_frame", None)), ())
        blocks = tuple(block for block in found if block.open)
        if blocks:
            for block in blocks:
                block.turns.abandon(block)
        elif not _collecting:
            self._upstream(generator)  # its user has dropped it, and its context is the user's
            return
        closing_context(blocks).run(self._upstream, generator)


def closing_context(blocks: tuple[Block, ...]) -> contextvars.Context:
    """The context of a task that closes a generator which holds these blocks, innermost last."""
    context = contextvars.copy_context()
    context.run(innermost.set, blocks[-1] if blocks else None)
    context.run(closing.set, blocks)
    return context


def watch() -> bool:
    """Wrap the finaliser of this thread's running loop. Returns whether it was wrapped before."""
    finaliser = sys.get_asyncgen_hooks().finalizer
    if type(finaliser) is Finaliser:
        return True
    if finaliser is not None:
        sys.set_asyncgen_hooks(finalizer=Finaliser(finaliser))
    return False


def let_close(block: Block | None) -> None:
    """Let the loop begin to close the generator of an unwatched block, if it was left."""
    if block is not None and block.unwatched and in_bridge():
        for _ in range(block.unwatched):
            wait(asyncio.sleep(0))


def hold(block: Block, frame: FrameType | None, *, watched: bool = True) -> None:
    """Note which generators hold a block: those among `frame` and the frames that await it."""
    found = []
    while frame is not None and frame.f_code.co_flags & AWAITED:
        if frame.f_code.co_flags & inspect.CO_ASYNC_GENERATOR:
            found.append(id(frame))
            held.setdefault(id(frame), []).append(block)
        frame = frame.f_back
    block.generators = tuple(found)
    chain: Chain = block.wrapper.aio.chain  # type: ignore[assignment]  # a block is a chain's
    chain.watched = chain.watched and watched
    if not chain.watched:
        block.unwatched = TURNS * len(found)


def hold_bridged(block: Block, frame: FrameType) -> None:
    """Note the same for a block that synchronous code enters in a generator inside the bridge.

    That generator may outlive the `run()` that began it, held by an asynchronous one.
    """
    caller: FrameType | None = frame
    for _ in range(NEAR):
        if caller is None:
            return
        if caller.f_code.co_flags & inspect.CO_GENERATOR:
            hold(block, outer_frame())
            return
        caller = caller.f_back


# Whether Python's garbage collector is at work: the generators that it finalises have nothing to do
# with the task that happens to run.
_collecting = False


def _notice(phase: str, info: dict[str, int]) -> None:
    global _collecting
    _collecting = phase == "start"


gc.callbacks.append(_notice)
