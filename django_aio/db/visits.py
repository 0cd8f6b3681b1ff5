"""Threads of `asyncio.to_thread()`.

Outside a transaction such a thread has connections of its own, which end with the call. A thread
that is started inside one is not a guest: it joins the transaction, as a task does (R3). But a
thread cannot be cancelled as a task can. When its caller is cancelled the thread goes on, and a
block that swallows the cancellation would commit what the thread has written until then: half of
its work. So each call is a `Visit`, and one that is left behind ends as a guest does (R8): the
blocks that it has joined can only be rolled back, its running statement is cancelled on the server,
and it begins no other on that database. Guarded by `tests/db/test_visits.py`.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connections
from django.db.transaction import TransactionManagementError

from django_aio.db import chains
from django_aio.db.blocks import Block, Session, innermost
from django_aio.db.guests import LEFT_BEHIND, spoil
from django_aio.db.leases import RAW_CURSOR
from django_aio.db.state import actor

if TYPE_CHECKING:
    from django_aio.db.types import Actor, Wrapper


class Visit:
    """One call of `asyncio.to_thread()`, with the blocks that its function has joined.

    Written under `_lock`, by the task that waits and by the actors of the function.
    """

    __slots__ = ("_actors", "_aliases", "_blocks", "_done", "_lock", "left")

    def __init__(self, block: Block | None) -> None:
        self.left = False  # whether it was left behind
        self._aliases: set[str] = set()  # of the databases that the caller is in a transaction on
        while block is not None:
            if block.open:
                self._aliases.add(block.wrapper.alias)
            block = block.parent
        self._blocks: set[Block] = set()
        self._actors: set[Actor] = set()
        self._done = False
        self._lock = threading.Lock()

    def join(self, alias: str, block: Block | None) -> None:
        """Note that the function uses a connection of an alias, in `block` if there is one.

        Raises TransactionManagementError if the call was left behind in a transaction on it.
        """
        with self._lock:
            if self.left and alias in self._aliases:
                raise TransactionManagementError(LEFT_BEHIND)
            if block is not None:
                self._blocks.add(block)
                self._actors.add(actor())

    def end(self) -> None:
        """Note that the function has returned."""
        with self._lock:
            self._done = True

    def leave(self) -> None:
        """Leave the call behind, unless its function has returned. Does not wait."""
        with self._lock:
            if self._done:
                return
            self.left = True
            for block in self._blocks:
                if not isinstance(block, Session):
                    spoil(block, self._actors)


def to_thread(upstream: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`asyncio.to_thread()`: end its connections with the call; inside a block, make it a visit."""

    @functools.wraps(upstream)
    async def to_thread(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        func = functools.partial(_call, func, *args, **kwargs)
        block = innermost.get()
        if block is None:
            return await upstream(func)
        visit = Visit(block)

        def visiting() -> Any:
            chains.visiting.set(visit)
            try:
                return func()
            finally:
                visit.end()

        try:
            return await upstream(visiting)
        except BaseException:
            visit.leave()
            raise

    return to_thread


def _call(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function in a thread that serves others too.

    Connections that the function opens are closed at its end, as `CONN_MAX_AGE` asks. Otherwise the
    threads of an executor would keep all connections of a pool, and wait for more.
    """
    opened = (wrapper for wrapper in _of_thread() if wrapper.connection is not None)
    before = {wrapper: RAW_CURSOR in vars(wrapper) for wrapper in opened}
    try:
        return func(*args, **kwargs)
    finally:
        for wrapper in _of_thread():
            if _is_touched(wrapper) and not before.get(wrapper) and not wrapper.in_atomic_block:
                _discard(wrapper)
            elif wrapper not in before:
                wrapper.close_if_unusable_or_obsolete()


def _is_touched(wrapper: Wrapper) -> bool:
    """Whether the function may have left state in the session of the thread's connection."""
    client = wrapper.connection
    return RAW_CURSOR in vars(wrapper) or bool(getattr(client, "touched", False))


def _discard(wrapper: Any) -> None:
    """Reset and close a connection, so that the next call finds nothing of this one in it (R10)."""
    pool = getattr(wrapper.connection, "_pool", None)
    if pool is not None:
        with contextlib.suppress(DatabaseError), wrapper.cursor() as cursor:
            cursor.execute("DISCARD ALL")
            wrapper.connection._prepared.clear()
            wrapper._configure_connection(wrapper.connection)
            if begin := getattr(wrapper.connection, "begin", None):
                begin()  # a connection opened before the series was applied has no such method
    wrapper.close()


def _of_thread() -> list[Any]:
    """The connection objects that are this thread's own."""
    return list(connections.all(initialized_only=True))
