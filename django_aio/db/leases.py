"""R4: how long a logical connection leases a physical one from its pool.

Outside a transaction a pooled connection is leased for one statement, from the opening of a cursor
to its closing. The lease lasts longer wherever something could depend on it. A task that begins
its next statement before it lets the loop go on has the same connection again, unless somebody
waits for one. In between, the connection is out of sight (`State.kept`): the logical connection is
unconnected, as after every lease, and code that connects it by hand gets another.

R7: whatever ends later carries its `Lease`. A lease is made once, and when it has ended, its
carriers do nothing: a cursor that the garbage collector closes, in whichever task or thread, cannot
return a connection that somebody else has by now.

No end waits: it hands the connection to the loop. Guarded by `tests/db/test_leases.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import TransactionManagementError
from django.db.utils import InterfaceError

from django_aio.bridge import in_bridge, run
from django_aio.db import sessions
from django_aio.db.state import actor, connecting, guests, on_loop, thread_id

if TYPE_CHECKING:
    from django_aio.db.state import State
    from django_aio.db.types import Managed, Wrapper

# The cursors of `raw()`.
RAW = "django.db.models.sql.query"

# The modules whose cursors lease for one statement: it leaves no state in the session.
STATELESS = (
    "django.db.models.sql.compiler",
    RAW,
    "django.core.cache.backends.db",
)

# The backends' own cursors, for savepoints and for questions about the server while they connect.
# Django does not close them all, so they neither begin a lease nor end one.
NEUTRAL = ("django.db.backends.base.base", "django.db.backends.sqlite3.base")


# An attribute of a plain thread's connection: code other than the ORM's has had a cursor of it.
RAW_CURSOR = "_aio_raw_cursor"


def note_cursor(wrapper: Wrapper, caller: str) -> None:
    """Note that the module `caller` opens a cursor on a plain thread's own connection."""
    if caller not in STATELESS and not caller.startswith(NEUTRAL):
        vars(wrapper)[RAW_CURSOR] = True


class Lease:
    """One lease of a physical connection to a logical one: what its cursors and holds carry.

    Written by the chain's members, one at a time. `end_cursor()` may be called by any thread.
    """

    __slots__ = ("connection", "cursors", "ended", "holds", "pinned", "short", "wrapper")

    def __init__(self, wrapper: Managed) -> None:
        self.wrapper = wrapper
        self.connection: Any = None  # the physical one, as soon as there is one
        self.cursors: set[object] = set()  # a token for each open cursor of the ORM
        self.holds = 0  # hold_connection() blocks
        self.pinned = False  # whether user code has had a cursor
        self.short = False  # whether it may end before the chain does
        self.ended = False

    def end_cursor(self, token: object) -> None:
        """End the part of a cursor that was closed, or collected. Waits for nothing."""
        loop = self.wrapper.aio.loop if self.wrapper.aio is not None else None
        running = asyncio._get_running_loop()
        if loop is None or running is loop or (running is None and self._is_guests()):
            self.cursors.discard(token)
            self.end_if_unused()
        else:
            # The garbage collector of an unrelated thread.
            on_loop(loop, self.end_cursor, token, otherwise=lambda: None)

    def _is_guests(self) -> bool:
        guest = guests.get(thread_id())
        return guest is not None and guest.chain is self.wrapper.aio.chain

    def end_hold(self) -> None:
        """End a hold_connection() block, in which a project's code had the connection."""
        self.holds -= 1
        self.end_if_unused(shown=True)

    def end_if_unused(self, *, shown: bool = False) -> None:
        """Return the connection unless something could depend on it.

        A connection that a project's code has had (`shown`) goes back to the pool, and whoever
        connects next sets its modes.
        """
        wrapper = self.wrapper
        state = wrapper.aio
        if (
            self.ended
            or state is None
            or state.lease is not self
            or wrapper.connection is None
            or wrapper.connection is not self.connection
            or not self.short
            or self.cursors
            or self.holds
            or self.pinned
            or state.stateful
            or wrapper.in_atomic_block
            or not wrapper.autocommit
        ):
            return
        self.ended = True
        state.lease = None
        if state.session is not None and not state.session.joins:
            sessions.release(wrapper)
        if not shown and _on_its_loop(state) and state.driver.may_keep(wrapper):
            state.kept, wrapper.connection = wrapper.connection, None
            if state.pool.waiting:
                part(wrapper)
            elif not state.parting:
                state.parting = True
                state.loop.call_soon(_part, wrapper, state)  # type: ignore[union-attr]
        else:
            state.driver.drop(wrapper)


def lease_of(wrapper: Managed) -> Lease:
    """The lease of the physical connection that `wrapper` has or is about to get."""
    state = wrapper.aio
    lease: Lease | None = state.lease
    if lease is None or (
        lease.connection is not None and lease.connection is not wrapper.connection
    ):
        if lease is not None:
            lease.ended = True  # the connection was closed under it
        lease = state.lease = Lease(wrapper)
    lease.connection = wrapper.connection
    return lease


def open_cursor(wrapper: Managed, upstream: Callable[[Any], Any], caller: str) -> Any:
    """Open a cursor for code of the module `caller`, leasing a connection if need be.

    Cursors of the ORM and of the database cache end their lease when they are closed. Other code
    may set a role, a search path, an advisory lock: then the connection stays with the chain to the
    chain's end.
    """
    state = wrapper.aio
    connects = connecting.get() is wrapper
    if caller.startswith(NEUTRAL) or connects:
        if state.shared and not connects:
            begin_lease(wrapper)
        return upstream(wrapper)
    is_short = state.shared or caller in STATELESS
    may_leave_state = state.loop is not None and (state.stateful or not is_short)
    if may_leave_state:
        sessions.begin(wrapper, joins=True)
    if not state.pooled:
        open: Callable[..., Any] = _open
    elif is_short:
        open = functools.partial(_open_for_a_while, collected=caller == RAW)
    else:
        open = _open_to_the_end
    if state.session is None or wrapper.connection is not None:
        cursor = open(wrapper, upstream)
    else:
        with sessions.opening(wrapper):
            cursor = open(wrapper, upstream)
    if may_leave_state:
        state.driver.touch(wrapper)
    return cursor


def keep_state(wrapper: Wrapper) -> None:
    """Keep the connection with its chain: a project may leave state in the session (R10).

    Does nothing in a plain thread, and while Django connects: that code prepares every connection.
    """
    if wrapper.aio is None or wrapper.aio.loop is None or connecting.get() is wrapper:
        return
    state = wrapper.aio
    sessions.begin(wrapper, joins=True)
    if state.pooled:
        lease_of(wrapper).pinned = True
    state.driver.touch(wrapper)


def _open(wrapper: Managed, upstream: Callable[[Any], Any]) -> Any:
    return upstream(wrapper)


def _open_to_the_end(wrapper: Managed, upstream: Callable[[Any], Any]) -> Any:
    state = wrapper.aio
    if state.kept is not None and wrapper.connection is None:
        _take_up(wrapper, state)
    lease = lease_of(wrapper)
    lease.pinned = True
    cursor = upstream(wrapper)
    lease.connection = wrapper.connection
    return cursor


def _open_for_a_while(wrapper: Managed, upstream: Callable[[Any], Any], *, collected: bool) -> Any:
    """Open a cursor whose closing, or collection, ends its part of the lease."""
    lease = begin_lease(wrapper)
    token = object()
    lease.cursors.add(token)  # before connecting, where other cursors must not end the lease
    try:
        cursor = upstream(wrapper)
        lease.connection = wrapper.connection
    except BaseException:
        lease.cursors.discard(token)
        lease.end_if_unused()
        raise
    if collected:  # Django drops it without closing it
        weakref.finalize(cursor, lease.end_cursor, token).atexit = False
    close = cursor.close
    holder: Lease | None = lease

    def close_and_release() -> None:
        nonlocal holder
        try:
            close()
        finally:
            if holder is not None:
                ended, holder = holder, None
                ended.end_cursor(token)

    cursor.close = close_and_release
    return cursor


def begin_lease(wrapper: Managed) -> Lease:
    """Mark the connection that is open, or about to be opened, as a short lease."""
    state = wrapper.aio
    if wrapper.connection is not None or not state.pooled:
        return lease_of(wrapper)
    if state.lease is not None:
        state.lease.ended = True
    if state.kept is not None:
        _take_up(wrapper, state)
    elif _on_its_loop(state):
        wrapper.connection = state.driver.lease(wrapper)
    lease: Lease = Lease(wrapper)
    state.lease = lease
    lease.short = True
    lease.connection = wrapper.connection
    if state.shared:
        sessions.begin(wrapper, joins=False)  # there is no other connection
    return lease


def end_lease(wrapper: Wrapper) -> None:
    """Return the connection if nothing depends on it, such as after a transaction."""
    if wrapper.aio is not None and wrapper.aio.lease is not None:
        lease_of(wrapper).end_if_unused()


def drop_if_ended(wrapper: Wrapper) -> None:
    """Drop a connection that Django has opened, at the end of a block, for an ended chain."""
    if wrapper.aio is None or wrapper.aio.chain is None or not wrapper.aio.chain.ended:
        return
    if wrapper.connection is not None:
        wrapper.aio.driver.drop(wrapper)


def _on_its_loop(state: State) -> bool:
    """Whether this is the bridge on the loop of the chain."""
    return in_bridge() and asyncio._get_running_loop() is state.loop


def _take_up(wrapper: Managed, state: State) -> None:
    """Use the connection of a lease that has just ended."""
    wrapper.connection, state.kept = state.kept, None


def part(wrapper: Wrapper) -> None:
    """Release a connection that was kept for the task's next statement. Called on its loop."""
    if wrapper.aio is not None and wrapper.aio.kept is not None:
        wrapper.aio.driver.part(wrapper)


def _part(wrapper: Wrapper, state: State) -> None:
    """Release the kept connection, because the task has let the loop go on."""
    state.parting = False
    part(wrapper)


def forget_lost(wrapper: Managed) -> None:
    """R12: outside a transaction, go on without a connection that was lost, killed or closed.

    The next use connects anew. Where the connection carried state, such as a tenant's role, every
    statement fails until the connection is closed, as in stock Django.
    """
    state = wrapper.aio
    if wrapper.connection is None or wrapper.in_atomic_block:
        return
    if state.session is not None and state.session.joins:
        return  # the state that the chain has set is lost: that must not go unnoticed
    if state.driver.is_lost(wrapper):
        state.driver.drop(wrapper)
        wrapper.errors_occurred = False


@contextlib.asynccontextmanager
async def hold_connection(using: str = DEFAULT_DB_ALIAS) -> AsyncGenerator[Any]:
    """Keep one physical connection for the whole of an `async with` block.

    Outside a transaction a pooled connection is otherwise leased for one statement at a time. Use
    the block where statements depend on the session: an advisory lock, a temporary table. Yields
    the logical connection. Blocks may be nested. Raises what connecting raises.
    """
    wrapper: Any = connections[using]
    lease = await run(_hold, wrapper)
    try:
        yield wrapper
    finally:
        lease.end_hold()


def _hold(wrapper: Managed) -> Lease:
    forget_lost(wrapper)
    if wrapper.connection is None and wrapper.aio.kept is not None:
        _take_up(wrapper, wrapper.aio)
    wrapper.ensure_connection()
    lease = lease_of(wrapper)
    lease.short = wrapper.aio.pooled
    lease.holds += 1
    if wrapper.aio.loop is not None:
        sessions.begin(wrapper, joins=False)
        wrapper.aio.touched = True  # a project's code has it
        wrapper.aio.driver.touch(wrapper)
    return lease


async def release_connection(using: str = DEFAULT_DB_ALIAS) -> None:
    """Say that there is nothing to keep in the session of this chain's connection.

    A chain that has used a raw cursor, or an engine that is not Django's own, keeps its connection
    to its end and shares it with the tasks that it starts. After this call they have connections of
    their own, and so has the chain; a pooled connection is returned, and reset before its next
    lease. Called by the task whose connection it is. Waits for the statements of those that share
    it. Does nothing where there is no connection. Raises TransactionManagementError inside
    `atomic()`, and InterfaceError inside `hold_connection()` and in a task that only shares the
    connection.
    """
    await run(_release, using)


def _release(alias: str) -> None:
    wrapper: Any = connections[alias]
    state = wrapper.aio
    if state is None or state.loop is None:
        return
    if wrapper not in connections.all(initialized_only=True):
        raise InterfaceError("Only the task whose connection it is can release it.")
    if state.lease is not None and state.lease.holds:
        raise InterfaceError("Leave hold_connection() first: it keeps the connection.")
    session, who = state.session, actor()
    block = state.turns.transaction if state.turns is not None else None
    if wrapper.in_atomic_block and (block is None or not block.joined):
        raise TransactionManagementError(IN_BLOCK)
    if session is not None and session.turns.acquire(who, session):
        session.turns.release(who)
    sessions.release(wrapper)
    part(wrapper)
    if wrapper.connection is not None and state.pooled:
        forget(state)
        state.driver.drop(wrapper)


IN_BLOCK = "The connection is in a transaction. Call release_connection() outside of 'atomic'."


def forget(state: State) -> None:
    """End the lease: whatever still carries it can do nothing with it (R7)."""
    lease, state.lease = state.lease, None
    if lease is not None:
        lease.ended = True
