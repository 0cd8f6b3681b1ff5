"""Where connections wait between two chains: the shelves of one event loop.

With `CONN_MAX_AGE` and without a pool, a connection that is still young when its chain ends is kept
for the next chain, as a thread keeps it for its next request. (Pooled connections wait in their
pool.) Logical connections without a physical one wait too, because making one costs more than a
short statement.

The shelves belong to the store of their loop (`django_aio.loops`), are touched by that loop's
thread only, and close with the loop. Guarded by `tests/test_loops.py`, `tests/db/test_chains.py`.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.bridge import run
from django_aio.db import observers
from django_aio.db.connecting import restore
from django_aio.db.leases import forget, part
from django_aio.loops import Store, disowned, logged, store

if TYPE_CHECKING:
    from django_aio.db.chains import Chain
    from django_aio.db.state import State
    from django_aio.db.types import Managed, Wrapper

# The most logical connections that wait, for each alias: more than a server keeps busy on one loop.
MOST_WAITING = 1000


class Shelves:
    """The connections of ended chains, and the living chains. A user of the loop's store."""

    def __init__(self) -> None:
        self.idle: dict[str, list[Managed]] = {}  # with the physical connection open
        self.spare: dict[str, list[Managed]] = {}  # without one
        self.chains: weakref.WeakSet[Chain] = weakref.WeakSet()

    def _idle(self) -> list[Managed]:
        """Take all open connections off the shelf."""
        idle, self.idle = self.idle, {}
        return [wrapper for wrappers in idle.values() for wrapper in wrappers]

    async def aclose(self) -> None:
        """Close every idle connection. Logs those that cannot be closed."""
        for wrapper in self._idle():
            with logged(f"A connection to {wrapper.alias!r}"):
                # Not wrapper.close(): a guest's thread may have made it.
                await run(wrapper.aio.driver.drop, wrapper)

    def abandon(self) -> set[asyncio.Task[Any]]:
        """Close the connections of chains too: the loop will never run again. Any thread."""
        tasks: set[asyncio.Task[Any]] = set()
        for chain in list(self.chains):
            with logged("A connection"):
                tasks.update(chain.abandon())
        for wrapper in self._idle():
            with logged(f"A connection to {wrapper.alias!r}"):
                sever(wrapper)
        self.spare.clear()
        return tasks


def shelves(loop: asyncio.AbstractEventLoop | None = None) -> Shelves:
    """The shelves of `loop`, by default of the running one."""
    return _of_store(store(loop))


def _of_store(found: Store) -> Shelves:
    for user in found.users:
        if type(user) is Shelves:
            return user
    made = Shelves()
    found.users.append(made)
    return made


def watched_store(wrapper: Managed) -> Store:
    """The store of a logical connection's loop, made sure to be closed with the loop.

    Called inside the bridge, or in a guest thread.
    """
    found = store(wrapper.aio.loop)
    if not found.watched:
        wrapper.aio.wait_on_loop(found.watch())
    return found


def take(alias: str, loop: asyncio.AbstractEventLoop) -> Managed | None:
    """Return a logical connection that an ended chain left, or None.

    One whose physical connection is still open comes first.
    """
    found = shelves(loop)
    idle = found.idle.get(alias)
    while idle:
        wrapper = idle.pop()
        if not _expired(wrapper):
            wrapper.health_check_done = False
            return wrapper
        wrapper.aio.driver.drop(wrapper)
    spare = found.spare.get(alias)
    return spare.pop() if spare else None


def give_back(wrapper: Wrapper) -> None:
    """Keep a connection for the next chain, or drop it, when its chain has ended. Never waits.

    A wrapper that was put in place by hand (`connections[alias] = wrapper`) is left alone.
    """
    if wrapper.aio is None:
        return
    state = wrapper.aio
    driver, kept_by = state.driver, store(state.loop)
    found = _of_store(kept_by)
    part(wrapper)
    observers.leave(wrapper)
    busy = state.busy or (state.turns is not None and state.turns.holder is not None)
    _end_tokens(state)
    shelf = found.spare
    if wrapper.connection is not None:
        if kept_by.watched and not busy and _may_stay_open(wrapper) and driver.is_idle(wrapper):
            shelf = found.idle
        else:
            driver.drop(wrapper)
    state.touched = False
    left = wrapper.execute_wrappers or wrapper.force_debug_cursor or wrapper.in_atomic_block
    if busy or left or state.stateful:
        return  # somebody may still act on the object
    restore(wrapper)
    waiting = shelf.setdefault(wrapper.alias, [])
    while waiting and (len(waiting) >= MOST_WAITING or _expired(waiting[0])):
        old = waiting.pop(0)
        if old.connection is not None:
            old.aio.driver.drop(old)
    waiting.append(wrapper)


def sever(wrapper: Wrapper) -> None:
    """Close the connection whatever it is doing, because its chain is gone. Any thread."""
    if wrapper.aio is None:
        return
    state = wrapper.aio
    if state.kept is not None:
        wrapper.connection, state.kept = state.kept, None
    _end_tokens(state)
    if wrapper.connection is not None:
        state.driver.sever(wrapper)


def _end_tokens(state: State) -> None:
    """End the blocks and the lease: whatever still carries one can do nothing with it (R7)."""
    turns, state.turns = state.turns, None
    state.session = None
    if turns is not None:
        turns.cut(None, CHAIN_ENDED)
    forget(state)


CHAIN_ENDED = (
    "The task that entered this 'atomic' block has ended without leaving it, so the block was "
    "rolled back. Leave a block in the task that entered it."
)


def disown(wrapper: Wrapper) -> None:
    """Go on without the connection in the child of a fork: it is the parent's."""
    state = wrapper.aio
    if state is None:
        return
    _end_tokens(state)
    disowned.extend((wrapper.connection, state.kept, state.worker))
    wrapper.connection = state.kept = state.worker = None
    wrapper.in_atomic_block = wrapper.closed_in_transaction = wrapper.needs_rollback = False
    wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []


def _expired(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether an open connection has reached the age that CONN_MAX_AGE allows."""
    return (
        wrapper.connection is not None
        and wrapper.close_at is not None
        and time.monotonic() >= wrapper.close_at
    )


def _may_stay_open(wrapper: Managed) -> bool:
    """Whether another chain may have the physical connection: this one has left nothing on it."""
    return not (
        _expired(wrapper)
        or wrapper.in_atomic_block
        or wrapper.aio.touched
        or wrapper.errors_occurred
        or wrapper.execute_wrappers
        or wrapper.force_debug_cursor
        or wrapper.run_on_commit
        or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]
        or not wrapper.aio.driver.may_stay_open(wrapper)
    )
