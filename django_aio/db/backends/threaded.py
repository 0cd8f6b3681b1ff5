"""Drivers that block: their calls go to a thread, once per statement, with its first rows.

Used for engines without a cooperative driver (Oracle, psycopg2, a third party's). Django's backend
sees the driver's own connection object; only its blocking methods and its cursors are sent to the
thread.

Inside the bridge the calls go to a thread; anywhere else they are made directly, as in stock
Django. A chain makes one call at a time, so the driver never sees two threads at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_aio.bridge import in_bridge, wait
from django_aio.db.backends.driver import SimpleDriver
from django_aio.db.backends.thread_cursor import ThreadCursor
from django_aio.threads import to_its_end

if TYPE_CHECKING:
    from django_aio.db.types import Managed

# The methods of a backend that reach the server through the driver itself. Everything else goes
# through a cursor.
BLOCKING = (
    "get_new_connection",
    "init_connection_state",
    "is_usable",
    "_set_autocommit",
    "_commit",
    "_rollback",
    "_close",
)


class ThreadedDriver(SimpleDriver):
    """The driver of an engine that nobody has made cooperative."""

    def adopt(self, wrapper: Managed) -> None:
        """Send its blocking calls to a thread when they are made inside the bridge."""
        if "create_cursor" not in vars(wrapper):
            _send_to_threads(wrapper)

    def is_idle(self, wrapper: Managed) -> bool:
        """As far as Django knows: such a driver cannot be asked without blocking."""
        return not wrapper.in_atomic_block and wrapper.autocommit

    def drop(self, wrapper: Managed) -> None:
        """Close the connection in a thread. The server rolls an open transaction back."""
        connection, wrapper.connection = wrapper.connection, None
        threading.Thread(target=connection.close, daemon=True).start()

    sever = drop

    def interrupt(self, wrapper: Managed) -> None:
        """Such a driver cannot be interrupted."""


class ThreadCalls:
    """Calls in a thread of the loop's default executor inside the bridge, else in this thread.

    Used by one chain, one call at a time; `soon()` by any thread.
    """

    def __init__(self) -> None:
        self._left: deque[Callable[[], object]] = deque()

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func`, after the calls that `soon()` has left."""
        if not in_bridge():
            return self._call(func, *args)
        # The driver cannot be interrupted, and nobody else may use its connection meanwhile.
        return wait(to_its_end(asyncio.to_thread(self._call, func, *args)))

    def _call(self, func: Callable[..., Any], *args: Any) -> Any:
        while self._left:
            with contextlib.suppress(Exception):
                self._left.popleft()()
        return func(*args)

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Call `func`, or leave it to the next call if this thread runs a loop."""
        if quick or asyncio._get_running_loop() is None:
            func()
        else:
            self._left.append(func)


def _send_to_threads(wrapper: Managed) -> None:
    """Send the blocking calls of this one wrapper to a thread."""
    calls = ThreadCalls()
    for name in BLOCKING:
        setattr(wrapper, name, functools.partial(calls.call, getattr(wrapper, name)))
    create_cursor = wrapper.create_cursor

    def cooperative_cursor(name: str | None = None) -> Any:
        return ThreadCursor(create_cursor(name), calls) if in_bridge() else create_cursor(name)

    wrapper.create_cursor = cooperative_cursor  # type: ignore[method-assign]
