"""What a logical connection carries while it belongs to a chain.

Django's `DatabaseWrapper` gets one attribute, `aio`: None in a plain thread, a `State` in a chain.
Below the drivers, so that all of them and the chains can use it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from django_aio.bridge import in_bridge, wait

if TYPE_CHECKING:
    from django_aio.db.gates import Gate

T = TypeVar("T")

# The class attribute: a connection of a plain thread.
UNMANAGED: State | None = None


class State:
    """The state of one logical connection in a chain.

    Touched by the chain's owner, and by a guest while the owner waits for it: one at a time. The
    gate, which joined tasks and threads use, has a lock of its own.
    """

    __slots__ = (
        "chain",
        "driver",
        "gate",
        "holds",
        "kept",
        "leased",
        "loop",
        "open",
        "parting",
        "pinned",
        "pool",
        "pooled",
        "shared",
        "stateful",
        "worker",
    )

    def __init__(self, chain: Any, driver: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        self.chain = chain
        self.driver = driver
        # The loop whose pool it draws on; None for the connection of a plain thread, which a
        # coroutine of a one-off loop borrows.
        self.loop = loop
        self.gate: Gate | None = None  # in a transaction
        self.pooled = False  # whether physical connections are leased from the loop's pool
        self.pool: Any = None  # what Django's backend sees as its pool
        self.worker: Any = None  # the thread of a SQLite connection
        # The lease of a pooled connection (R4): how many cursors of the ORM are open that a lease
        # was taken for, how many hold_connection() blocks, and whether user code has had a cursor.
        self.leased = False
        self.open = 0
        self.holds = 0
        self.pinned = False
        # A connection whose lease has ended, until the task lets the loop go on; and whether the
        # loop will then take it back.
        self.kept: Any = None
        self.parting = False
        # Whether all chains of the loop use the same physical connection: an in-memory database.
        self.shared = False
        # Whether the engine is a third party's, which may keep session state of its own.
        self.stateful = False

    def settle(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the chain's loop and wait: in the bridge, or in a guest thread."""
        assert self.loop is not None
        return settle_on(self.loop, coroutine)


def settle_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on `loop` and wait: in the bridge, or in a thread.

    The bridge may be on another loop: that of a coroutine that a guest thread runs on a loop of its
    own.
    """
    if in_bridge() and asyncio.get_running_loop() is loop:
        return wait(coroutine)
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    return wait(asyncio.wrap_future(future)) if in_bridge() else future.result()


def actor() -> asyncio.Task[Any] | int:
    """Who is running: the task, or in a thread without a loop (or in a callback) the thread."""
    if asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            return task
    return threading.get_ident()
