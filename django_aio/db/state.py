"""The state that a logical connection carries while it belongs to a chain.

Django's `DatabaseWrapper` gets one attribute, `aio`: None in a plain thread, a `State` in a chain.
Below the drivers, so that all of them and the chains can use it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from django.db.utils import InterfaceError

from django_aio.bridge import in_bridge, wait

if TYPE_CHECKING:
    import aiosqlite

    from django_aio.db.backends.driver import Driver
    from django_aio.db.blocks import Session
    from django_aio.db.chains import Chain
    from django_aio.db.guests import Guest
    from django_aio.db.leases import Lease
    from django_aio.db.turns import Turns
    from django_aio.db.types import Actor, Wrapper

T = TypeVar("T")

# The class attribute: a connection of a plain thread.
UNMANAGED: State | None = None

# The connection object that this context connects. What code does with it meanwhile, in a thread
# too, prepares every connection and is not a chain's state.
connecting: ContextVar[Wrapper | None] = ContextVar("django_aio_connecting", default=None)

# How often a thread that waits for a loop checks that the loop is still open, in seconds.
LOOK_EVERY = 1.0


class State:
    """The state of one logical connection in a chain.

    Touched by the chain's owner, and by a guest while the owner waits for it: one at a time.
    `turns`, which joined tasks and threads use too, has a lock of its own.
    """

    __slots__ = (
        "busy",
        "chain",
        "driver",
        "ended_by",
        "interrupting",
        "kept",
        "lease",
        "loop",
        "parting",
        "pool",
        "pooled",
        "pristine",
        "session",
        "shared",
        "stateful",
        "touched",
        "turns",
        "worker",
    )

    def __init__(
        self, chain: Chain | None, driver: Driver, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.chain = chain
        self.driver = driver
        # The loop whose pool the connection comes from; None for the connection of a plain thread,
        # which a coroutine of a one-off loop borrows.
        self.loop = loop
        self.turns: Turns | None = None  # in a transaction, or a session
        # What holds the physical connection for the chain, and whether code other than the ORM's
        # may have left state in its session: see sessions.py.
        self.session: Session | None = None
        self.touched = False
        # Whether a session ended while somebody else had a statement running in it. Its outcome is
        # noted on the connection object, so no other chain may have that.
        self.busy = False
        # A cancel request on its way to the server, for a statement of a guest.
        self.interrupting: concurrent.futures.Future[None] | None = None
        # Who leaves a block on the connection; need not belong to the chain.
        self.ended_by: Actor | None = None
        self.pooled = False  # whether physical connections are leased from the loop's pool
        self.pool: Any = None  # what Django's backend sees as its pool
        self.worker: aiosqlite.Connection | None = None  # the thread of a SQLite connection
        self.lease: Lease | None = None  # of a pooled connection (R4)
        # A connection whose lease has ended, kept until the task lets the loop go on; and whether
        # the loop has been asked to take it back then. Guarded by tests/db/test_leases.py.
        self.kept: Any = None
        self.parting = False
        # The attributes of the connection object before any chain used it: see connecting.py.
        self.pristine: dict[str, Any] = {}
        # Whether all chains of the loop use the same physical connection: an in-memory database.
        self.shared = False
        # Whether the engine is a third party's, which may keep session state of its own.
        self.stateful = False

    def wait_on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the chain's loop and wait: in the bridge, or in a guest thread."""
        assert self.loop is not None
        return wait_on(self.loop, coroutine)


def wait_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on `loop` and wait: in the bridge, or in a thread.

    The bridge may be on another loop, where a guest thread runs a coroutine on a loop of its own.
    Raises InterfaceError if `loop` ends meanwhile.
    """
    if in_bridge() and asyncio.get_running_loop() is loop:
        return wait(coroutine)
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:
        coroutine.close()
        raise InterfaceError(LOOP_ENDED) from None
    if in_bridge():
        return wait(asyncio.wrap_future(future))
    while True:
        try:
            return future.result(LOOK_EVERY)
        except TimeoutError:
            if future.done():
                raise  # the coroutine's own
            if loop.is_closed():
                raise InterfaceError(LOOP_ENDED) from None


LOOP_ENDED = (
    "The event loop that this thread's connection belongs to has ended, so nothing can be asked on "
    "it any more. Wait for the thread before you let the loop end."
)


def on_loop(
    loop: asyncio.AbstractEventLoop,
    function: Callable[..., object],
    *args: Any,
    otherwise: Callable[[], object],
) -> None:
    """Call a function in the thread of `loop`: now, or soon. Never waits; any thread.

    Calls `otherwise()` in the running thread instead if the loop is closed.
    """
    if asyncio._get_running_loop() is loop:
        function(*args)
        return
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        otherwise()


thread_id = threading.get_ident

# Threads that act for a chain (`guests.py`): each entry is written by the thread that it names.
guests: dict[int, Guest] = {}


def actor() -> Actor:
    """Who is running: the task; in a thread, or a callback of a loop, the guest or thread id."""
    if asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            return task
    thread = thread_id()
    return guests.get(thread, thread) if guests else thread
