"""R10: state that a chain may have left in its connection's session stays with the chain.

A raw cursor may set a role, a search path, a session variable, a temporary table, an advisory lock;
an engine that is not Django's own may keep a tenant on the connection object. From then on the
chain has a `Session`: it keeps its physical connection to its end, and the tasks and threads that
start under the session use that connection too, statement by statement in turn, as they join a
transaction (R3). If one of them has a transaction open, the others' statements wait for its end.

- The context knows the session, as it knows blocks: a task that starts under it inherits it.
- The session ends with its chain, or by `await release_connection()`. A task that had joined and
  goes on gets an error after the first, and a connection of its own after the second.
- The physical connection is reset, or closed, before another chain has it: see `State.touched`.

A session begins in the task or thread that acts for the chain; any may ask for it. Guarded by
`tests/db/test_sessions.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

from django_aio.db.blocks import Session, known_block
from django_aio.db.state import actor
from django_aio.db.turns import Turns

if TYPE_CHECKING:
    from django_aio.db.chains import Chain
    from django_aio.db.types import Managed, Wrapper

_NONE: Mapping[str, Session] = MappingProxyType({})

# Whether this coroutine's thread serves a request: the coroutine's tasks share its connections.
of_a_request: ContextVar[bool] = ContextVar("django_aio_of_a_request", default=False)

# The sessions that this context was made under, by alias. Replaced, never changed.
known: ContextVar[Mapping[str, Session]] = ContextVar("django_aio_sessions", default=_NONE)


def begin(wrapper: Managed, *, joins: bool) -> Session:
    """Begin a session on the connection of the running chain, if it has none.

    With `joins` the session may carry state: tasks that start from here on use it, and the physical
    connection does not go to another chain as it is.
    """
    state = wrapper.aio
    session: Session | None = state.session
    if session is None:
        state.turns = turns = state.turns or Turns()
        session = state.session = Session(wrapper, turns)
        turns.found(session)
    if joins:
        session.joins = state.touched = True
    if known.get().get(wrapper.alias) is not session:
        known.set({**known.get(), wrapper.alias: session})
    return session


@contextlib.contextmanager
def opening(wrapper: Managed) -> Iterator[None]:
    """Let one of those who share a connection open it; the others wait, and find it open.

    Otherwise each would open one and replace another's.
    """
    session = wrapper.aio.session
    who = actor()
    waits = (
        session is not None
        and session.turns.blocks == [session]
        and wrapper.connection is None
        and session.turns.acquire(who, session)
    )
    try:
        yield
    finally:
        if session is not None and waits:
            session.turns.release(who)


def release(wrapper: Managed) -> None:
    """End the session of a connection, because it has nothing to keep. Waits for nothing."""
    state = wrapper.aio
    session, state.session = state.session, None
    if session is None:
        return
    session.released = True
    turns = session.turns
    state.busy = state.busy or turns.holder not in (None, actor())
    turns.pop(session)
    if not turns.blocks:
        state.turns = None


def begin_request(own: Chain | None) -> None:
    """Begin a request in this context: forget the sessions that the server was started under.

    A server that was started by code which had used a raw cursor passes its context on to every
    request. `own` is the chain of the running task, or None; its sessions stay.
    """
    inherited = known.get()
    if inherited:
        kept = {a: s for a, s in inherited.items() if s.open and s.wrapper.aio.chain is own}
        known.set(kept or _NONE)


def joinable(alias: str) -> Session | None:
    """The session that this context must use for an alias, if the session's chain has not ended."""
    session = known.get().get(alias)
    return session if session is not None and session.open and session.joins else None


def lender(wrapper: Wrapper) -> Managed | None:
    """The connection that a chain borrows for a statement where its pool has none free, or None.

    It is that of the task under which the chain was started. That task holds its connection while
    it waits for this one, so without the loan both would wait for the pool for ever. A transaction
    that began on a borrowed connection goes on there.
    """
    session = known.get().get(wrapper.alias)
    if session is None or not session.open or session.wrapper is wrapper or wrapper.aio is None:
        return None
    state = wrapper.aio
    if known_block(session.turns) is not None:
        return session.wrapper
    if wrapper.connection is not None or state.kept is not None or not state.pooled:
        return None
    return None if state.driver.has_free(wrapper) else session.wrapper
