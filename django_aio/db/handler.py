"""`connections["default"]`: the logical connection of the caller, in a chain or a plain thread.

A member of a chain has the chain's; a task or thread that was started inside a transaction has the
transaction's; a task that was started under a session has the session's, if it must share it or the
pool has none free. In a plain thread the connections are Django's own, and cost no more than in
stock Django.

Called by any task and any thread. (Django documentation, "django.db.connections".) Guarded by
`tests/db/test_chains.py` and `tests/db/test_joining.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.db.utils import ConnectionHandler, InterfaceError
from django.utils.connection import BaseConnectionHandler

from django_aio.bridge import in_bridge
from django_aio.db import chains, generators, observers, sessions
from django_aio.db.blocks import Block, Session, innermost
from django_aio.db.chains import (
    Chain,
    acting_chain,
    chain_of_task,
    join_transaction,
    member_of,
    of_thread,
)
from django_aio.db.state import actor, guests
from django_aio.db.turns import Turns

if TYPE_CHECKING:
    from django_aio.db.state import State
    from django_aio.db.types import Managed, Member, Wrapper

_current_task = asyncio.current_task
_running_loop = asyncio._get_running_loop
_thread = threading.get_ident
_inherited_getitem = BaseConnectionHandler.__getitem__
_inherited_setitem = BaseConnectionHandler.__setitem__


def getitem(self: ConnectionHandler, alias: str) -> Any:
    """`connections[alias]`: the chain's logical connection, or in a plain thread the thread's."""
    if _running_loop() is None:
        if self is not connections:
            return _inherited_getitem(self, alias)
        guest = guests.get(_thread()) if guests else None
        if guest is not None:
            return _usable(guest.chain.wrappers.get(alias) or guest.connection(self, alias))
        if innermost.get() is not None or sessions.known.get():
            wrapper = join_transaction(threading.current_thread(), alias)
            if wrapper is not None:
                return _after_left_block(wrapper)
        return getattr(of_thread, alias, None) or _inherited_getitem(self, alias)
    task = _current_task()
    if task is None or self is not connections:
        return _inherited_getitem(self, alias)
    chain = chains.tasks.get(task)
    if chain is None:
        if innermost.get() is not None or task in chains.joined_blocks or sessions.known.get():
            wrapper = join_transaction(task, alias)
            if wrapper is not None:
                return _after_left_block(wrapper)
        wrapper = getattr(of_thread, alias, None)
        if wrapper is not None and wrapper.in_atomic_block:
            return _join_thread(task, alias, wrapper)
        chain = chain_of_task(task)
    return _usable(chain.wrappers.get(alias) or connection_of(chain, self, alias, task))


def _usable(wrapper: Wrapper) -> Any:
    """The chain's connection, or the one that another chain lends to it."""
    lent = sessions.lender(wrapper) if sessions.known.get() else None
    if lent is None:
        return _after_left_block(wrapper)
    session = lent.aio.session
    with contextlib.suppress(InterfaceError):  # the session ends meanwhile
        _after_left_block(lent)
    return lent if session is not None and session.open else _usable(wrapper)


def _after_left_block(wrapper: Wrapper) -> Any:
    """Return the connection after waiting for the end of a block whose generator was left."""
    state = wrapper.aio
    if state is None:
        return wrapper
    turns = state.turns
    if turns is not None and turns.blocks:
        generators.let_close(turns.blocks[-1])
        if turns.closing_block() is not None:
            turns.let_end(actor())
        session = state.session
        if session is not None and len(turns.blocks) > 1:
            _let_transaction_end(state, turns, session)
    return wrapper


def _let_transaction_end(state: State, turns: Turns, session: Session) -> None:
    """Wait for the end of a transaction in a shared session, unless the caller is in it."""
    who = actor()
    block = innermost.get()
    while block is not None and block.turns is not turns:
        block = block.parent
    mine = any(not each.joined for each in turns.blocks[1:]) and member_of(state.chain)
    if block is not None or mine or turns.holder == who:
        return
    if (_running_loop() is None or in_bridge()) and turns.acquire(who, session):
        turns.release(who)


def current_connection(alias: str) -> Any:
    """The connection that an operation of the running task or thread begins with."""
    return connections[alias]


def connection_of(chain: Chain, handler: ConnectionHandler, alias: str, who: Member) -> Any:
    """A connection that a chain has not used yet: that of a transaction to join, or a new one.

    A task that was started in a transaction may have used another database first.
    """
    wrapper = None
    if alias in chain.refused:
        raise TransactionManagementError(chain.refused[alias])
    if innermost.get() is not None or sessions.known.get():
        wrapper = join_transaction(who, alias)
    return wrapper or chain.connection(handler, alias)


def setitem(self: ConnectionHandler, alias: str, wrapper: BaseDatabaseWrapper) -> None:
    """`connections[alias] = wrapper`, for the calling chain or thread."""
    chain = acting_chain() if self is connections else None
    if chain is None and self is connections and _running_loop() is not None:
        task = _current_task()
        chain = None if task is None else chain_of_task(task)
    if chain is None:
        _inherited_setitem(self, alias, wrapper)
    else:
        chain.wrappers[alias] = wrapper


def delitem(self: ConnectionHandler, alias: str) -> None:
    """`del connections[alias]`. Raises AttributeError, as Django does, where there is none."""
    chain = acting_chain() if self is connections else None
    if chain is None:
        BaseConnectionHandler.__delitem__(self, alias)
    elif alias in chain.wrappers:
        del chain.wrappers[alias]
    else:
        raise AttributeError(f"This chain has no connection {alias!r}.")


def all_connections(upstream: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """`connections.all()`: with `initialized_only` those that this chain or thread has used."""

    @functools.wraps(upstream)
    def all(self: ConnectionHandler, initialized_only: bool = False) -> list[Any]:
        if not initialized_only or self is not connections:
            return upstream(self, initialized_only)
        chain = acting_chain()
        if chain is not None:
            return list(chain.wrappers.values())
        in_task = _running_loop() is not None and _current_task() is not None
        return [] if in_task else upstream(self, initialized_only)

    return all


def begin_request() -> None:
    """Begin a request in the running task: it shares nothing with what started the server."""
    sessions.begin_request(acting_chain())
    observers.begin_request()
    for alias in connections if settings.DEBUG else ():
        current_connection(alias)  # the tasks that the request starts log on it


def _join_thread(task: asyncio.Task[Any], alias: str, wrapper: Any) -> Any:
    """Join the transaction that this thread has open while it runs the loop.

    The thread waits in `asyncio.run()` or `run_until_complete()`, as in an asynchronous test whose
    fixture opened a transaction.
    """
    if wrapper.aio is None:
        chains.manage(wrapper, chains.ThreadChain())
    turns = wrapper.aio.turns
    if turns is None:
        turns = wrapper.aio.turns = Turns()
        turns.push(Block(wrapper, turns, None))
    base = turns.blocks[0]
    chains.joins(task, alias, base)
    innermost.set(base)
    return wrapper


def validate_thread_sharing(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`BaseDatabaseWrapper.validate_thread_sharing`: allow the threads that act for the chain.

    Any other thread that got hold of the connection object is refused, as in stock Django.
    """

    @functools.wraps(upstream)
    def validate_thread_sharing(self: Wrapper) -> None:
        if self._thread_ident == _thread() or (self.aio is not None and _is_let_in(self)):
            return
        upstream(self)

    return validate_thread_sharing


def _is_let_in(wrapper: Managed) -> bool:
    """Whether the running task or thread belongs to the connection's chain or transaction."""
    if member_of(wrapper.aio.chain):
        return True
    task = _current_task() if _running_loop() is not None else None
    who = task or guests.get(_thread()) or threading.current_thread()
    if wrapper.aio.ended_by is not None and wrapper.aio.ended_by == actor():
        return True  # it ends a block that it was handed
    session = sessions.known.get().get(wrapper.alias)
    if session is not None and session.open and session.wrapper is wrapper:
        return True
    joined = chains.joined_blocks.get(who, {})
    return wrapper.alias in joined and joined[wrapper.alias].wrapper is wrapper
