"""A connection belongs to a call chain.

Django ties a connection to a thread. Under a loop all requests share one thread, so here it is tied
to the chain of calls: a task and whatever it waits for.

- R1. Crossing a boundary changes nothing. Who calls across (`run()`, `sync_to_async`,
  `async_to_sync`) is suspended, so the callee is a guest: it uses the caller's connections, in the
  caller's transaction.
- R2. A new task starts a new chain, with connections of its own.
- R3. Except inside a transaction: there it joins (`gates.py`).
- R5. When the owner ends, its connections are returned, kept for the next chain as `CONN_MAX_AGE`
  asks, or closed. The end needs no `await`: it works while the loop shuts down.

In a plain thread, and in a callback of the loop that belongs to no task, connections are Django's
own, untouched. `_tasks` and `guests` (`guests.py`) say who acts for which chain: each entry is
written by the task or thread that it names.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.db.utils import ConnectionHandler, InterfaceError
from django.utils.connection import BaseConnectionHandler

from django_aio.bridge import in_bridge
from django_aio.db import connecting, gates, generators, leases, observers, pool, sessions
from django_aio.db.backends.registry import driver_of
from django_aio.db.gates import Block, Gate, Session, ended, innermost, is_inside, joinable
from django_aio.db.state import State, actor, guests

_current_task = asyncio.current_task
_running_loop = asyncio._get_running_loop
_thread = threading.get_ident


class Chain:
    """The logical connections of one task, and of its guests while it waits for them."""

    __slots__ = ("__weakref__", "ended", "loop", "refused", "watched", "wrappers")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        self.wrappers: dict[str, Any] = {}
        self.ended = False
        # Whether the generators of its loop were watched when it began: see generators.py.
        self.watched = generators.watch()
        # Why there is no connection of an alias any more: of a guest that was left behind (R8).
        self.refused: dict[str, str] = {}
        if loop is not None:
            pool.store(loop).chains.add(self)

    def connection(self, handler: ConnectionHandler, alias: str) -> Any:
        """The logical connection of that alias, made or taken from the store at its first use."""
        wrapper = self.wrappers.get(alias)
        if wrapper is None:
            wrapper = self.wrappers[alias] = self._new(handler, alias)
        return wrapper

    def _new(self, handler: ConnectionHandler, alias: str) -> Any:
        if alias not in handler.settings:
            raise handler.exception_class(f"The connection '{alias}' doesn't exist.")
        assert self.loop is not None
        wrapper = pool.take(alias, self.loop)
        if wrapper is None:
            wrapper = manage(handler.create_connection(alias), self)
            connecting.remember(wrapper)
        wrapper.aio.chain = self
        observers.take_over(wrapper)
        if wrapper.aio.stateful:
            sessions.begin(wrapper, joins=True)  # it may get a tenant before its first cursor
        return wrapper

    def part(self) -> None:
        """Let go of connections whose leases have ended: another thread is to use the chain."""
        for wrapper in self.wrappers.values():
            leases.part(wrapper)

    def end(self) -> None:
        """Give every connection back, without waiting. Called on the loop."""
        self.ended = True
        while self.wrappers:
            _, wrapper = self.wrappers.popitem()
            pool.give_back(wrapper)
        if self.loop is not None:
            pool.store(self.loop).chains.discard(self)

    def abandon(self) -> list[asyncio.Task[Any]]:
        """Close every connection: no loop can take one back any more. Any thread.

        Returns the tasks that acted for the chain.
        """
        self.ended = True
        tasks = [task for task, chain in list(_tasks.items()) if chain is self]
        for task in tasks:
            del _tasks[task]
        while self.wrappers:
            _, wrapper = self.wrappers.popitem()
            pool.sever(wrapper)
        return tasks


class ThreadChain(Chain):
    """The connections of a plain thread, lent to the coroutine that it waits for."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None)
        local = connections._connections  # type: ignore[attr-defined]
        for alias in connections.settings:
            wrapper = getattr(local, alias, None)
            # Where the thread has joined a transaction it uses that, and nothing of its own.
            if wrapper is not None and (wrapper.in_atomic_block or joinable(alias) is None):
                self.wrappers[alias] = wrapper

    def _new(self, handler: ConnectionHandler, alias: str) -> Any:
        return manage(handler.create_connection(alias), self)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Manage the thread's connections for as long as it waits. Called in that thread."""
        for wrapper in self.wrappers.values():
            manage(wrapper, self)
        before = dict(self.wrappers)
        try:
            yield
        finally:
            for wrapper in {*before.values(), *self.wrappers.values()}:
                gates.note_spoiled(wrapper)
                if wrapper.aio is not None:
                    sessions.release(wrapper)
                wrapper.aio = None
            for alias in before.keys() - self.wrappers.keys():
                BaseConnectionHandler.__delitem__(connections, alias)
            for alias, wrapper in self.wrappers.items():
                if before.get(alias) is not wrapper:
                    # Made by the coroutine, in its loop's thread: from here on it is this thread's.
                    wrapper._thread_ident = _thread()
                    _inherited_setitem(connections, alias, wrapper)

    def base_blocks(self) -> None:
        """In the coroutine that begins: the transactions that the thread has open are its own.

        In a request its tasks share the other connections too, instead of opening some. A pool has
        them at hand, but not the state that a raw cursor has set.
        """
        for wrapper in self.wrappers.values():
            if wrapper.in_atomic_block:
                gate = wrapper.aio.gate = Gate()
                block = Block(wrapper, gate, innermost.get())
                gate.push(block)
                innermost.set(block)
        for alias, options in connections.settings.items() if sessions.of_a_request.get() else ():
            touched = hasattr(self.wrappers.get(alias), leases.RAW_CURSOR)
            if touched or not options["OPTIONS"].get("pool"):
                wrapper = self.connection(connections, alias)
                if wrapper.aio.gate is None:
                    sessions.begin(wrapper, joins=True)


def manage(wrapper: Any, chain: Chain) -> Any:
    """Make a logical connection part of a chain."""
    driver = driver_of(type(wrapper))
    wrapper.aio = State(chain, driver, chain.loop)
    driver.adopt(wrapper)
    return wrapper


_tasks: dict[asyncio.Task[Any], Chain] = {}

# The transactions that a task or thread has joined, by alias. A task that goes on when one has
# ended must not find itself in autocommit mode.
_joined: weakref.WeakKeyDictionary[Any, dict[str, Block]] = weakref.WeakKeyDictionary()

# The call of asyncio.to_thread() that this context runs in, if it began in a block: visits.py.
visiting: ContextVar[Any] = ContextVar("django_aio_visit", default=None)

# Where asgiref's Local keeps the connections of plain threads. Asked directly, a plain thread pays
# no more than in stock Django; Local would look for a loop again.
_of_thread = vars(connections._connections).get("_storage")  # type: ignore[attr-defined]
if not isinstance(_of_thread, threading.local):
    _of_thread = threading.local()  # another asgiref: never found there

_inherited_getitem = BaseConnectionHandler.__getitem__
_inherited_setitem = BaseConnectionHandler.__setitem__


def member_of(chain: Chain | None) -> bool:
    """Whether the running task or thread acts for the chain: its owner, or a guest.

    A connection that belongs to no chain, such as a copy, is used by whoever has it.
    """
    if chain is None:
        return True
    if _running_loop() is not None:
        task = _current_task()
        if task is not None:
            return _tasks.get(task) is chain
    guest = guests.get(_thread())
    return guest is not None and guest.chain is chain


def validate_thread_sharing(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`BaseDatabaseWrapper.validate_thread_sharing`: any thread that acts for the chain may use it.

    Another one that got hold of the connection object is refused, as in Django.
    """

    @functools.wraps(upstream)
    def validate_thread_sharing(self: Any) -> None:
        if self._thread_ident == _thread() or (self.aio is not None and _is_let_in(self)):
            return
        upstream(self)

    return validate_thread_sharing


def _is_let_in(wrapper: Any) -> bool:
    """Whether the running task or thread belongs to the connection's chain or transaction."""
    if member_of(wrapper.aio.chain):
        return True
    task = _current_task() if _running_loop() is not None else None
    who = task or guests.get(_thread()) or threading.current_thread()
    if wrapper.aio.ended_by is not None and wrapper.aio.ended_by == actor():
        return True  # it ends what it was handed out
    session = sessions.known.get().get(wrapper.alias)
    if session is not None and session.open and session.wrapper is wrapper:
        return True
    joined = _joined.get(who, {})
    return wrapper.alias in joined and joined[wrapper.alias].wrapper is wrapper


def _ended(task: asyncio.Task[Any]) -> None:
    chain = _tasks.pop(task, None)
    if chain is not None:
        chain.end()


def _own(task: asyncio.Task[Any]) -> Chain:
    """The chain of `task`, made at its first use of a connection."""
    chain = _tasks.get(task)
    if chain is None:
        chain = _tasks[task] = Chain(task.get_loop())
        task.add_done_callback(_ended)
    return chain


def _acting() -> Chain | None:
    """The chain that the running task or thread acts for, if it has one."""
    if _running_loop() is None:
        guest = guests.get(_thread()) if guests else None
        return None if guest is None else guest.chain
    task = _current_task()
    return None if task is None else _tasks.get(task)


def _join(who: Any, alias: str) -> Any:
    """The connection of the transaction that `who` was started in, or None if there is none."""
    block = _block_of(who, alias)
    visit = visiting.get()
    if visit is not None:
        visit.join(alias, block)
    return None if block is None else block.wrapper


def _block_of(who: Any, alias: str) -> Block | None:
    """The block that `who` has joined, or joins now, on a connection of that alias."""
    block = _joined.get(who, {}).get(alias)
    # A thread of an executor works for one context after another.
    if block is not None and (not isinstance(who, threading.Thread) or _is_known(block)):
        if block.open:
            return block
        if not (isinstance(block, Session) and block.released):
            raise ended(block)
    found = joinable(alias)
    if found is not None and found.unwatched:
        generators.let_close(found)
        found = joinable(alias)
    found = found or sessions.joinable(alias)
    if found is not None:
        joins(who, alias, found)
    return found


def _is_known(block: Block) -> bool:
    """Whether this context was made inside the block, or under the session."""
    if isinstance(block, Session):
        return sessions.known.get().get(block.wrapper.alias) is block
    return is_inside(block)


def joined_by(who: Any) -> dict[str, Block]:
    """The blocks that a task or thread has joined, by alias."""
    return _joined.get(who, {})


def joins(who: Any, alias: str, block: Block) -> None:
    """Note that a task, thread or guest has joined the transaction of a block."""
    _joined.setdefault(who, {})[alias] = block


def of_plain_thread(wrapper: Any) -> bool:
    """Whether the running thread uses a connection of its own, outside any chain.

    Tasks of a loop that it runs now and then may have joined its transaction; while it runs itself
    they do not.
    """
    return (
        _running_loop() is None
        and wrapper.aio.loop is None
        and _thread() not in guests
        and getattr(_of_thread, wrapper.alias, None) is wrapper
    )


def _join_thread(task: asyncio.Task[Any], alias: str, wrapper: Any) -> Any:
    """Join the transaction that this thread has open while it runs the loop.

    The thread waits in `asyncio.run()` or `run_until_complete()`, as in an asynchronous test whose
    fixture opened a transaction.
    """
    if wrapper.aio is None:
        manage(wrapper, ThreadChain())
    gate = wrapper.aio.gate
    if gate is None:
        gate = wrapper.aio.gate = Gate()
        gate.push(Block(wrapper, gate, None))
    base = gate.blocks[0]
    joins(task, alias, base)
    innermost.set(base)
    return wrapper


def getitem(self: ConnectionHandler, alias: str) -> Any:
    """`connections[alias]`: the chain's logical connection, or in a plain thread the thread's."""
    if _running_loop() is None:
        if self is not connections:
            return _inherited_getitem(self, alias)
        guest = guests.get(_thread()) if guests else None
        if guest is not None:
            return _usable(guest.chain.wrappers.get(alias) or guest.connection(self, alias))
        if innermost.get() is not None or sessions.known.get():
            wrapper = _join(threading.current_thread(), alias)
            if wrapper is not None:
                return _settled(wrapper)
        return getattr(_of_thread, alias, None) or _inherited_getitem(self, alias)
    task = _current_task()
    if task is None or self is not connections:
        return _inherited_getitem(self, alias)
    chain = _tasks.get(task)
    if chain is None:
        if innermost.get() is not None or task in _joined or sessions.known.get():
            wrapper = _join(task, alias)
            if wrapper is not None:
                return _settled(wrapper)
        wrapper = getattr(_of_thread, alias, None)
        if wrapper is not None and wrapper.in_atomic_block:
            return _join_thread(task, alias, wrapper)
        chain = _own(task)
    return _usable(chain.wrappers.get(alias) or _connection(chain, self, alias, task))


def _usable(wrapper: Any) -> Any:
    """The chain's connection, or the one that is lent to it."""
    lent = sessions.lender(wrapper) if sessions.known.get() else None
    if lent is None:
        return _settled(wrapper)
    session = lent.aio.session
    with contextlib.suppress(InterfaceError):  # it ends meanwhile
        _settled(lent)
    return lent if session is not None and session.open else _usable(wrapper)


def _settled(wrapper: Any) -> Any:
    """The connection, after the end of a block whose generator was left: it is not the caller's."""
    state = wrapper.aio
    gate = None if state is None else state.gate
    if gate is not None and gate.blocks:
        generators.let_close(gate.blocks[-1])
        if gate.closing_block() is not None:
            gate.let_end(actor())
        if state.session is not None and len(gate.blocks) > 1:
            _let_transaction_end(wrapper)
    return wrapper


def _let_transaction_end(wrapper: Any) -> None:
    """Outside of the transaction that somebody has open in a shared session: wait for its end."""
    gate, session, who = wrapper.aio.gate, wrapper.aio.session, actor()
    block = innermost.get()
    while block is not None and block.gate is not gate:
        block = block.parent
    mine = any(not each.joined for each in gate.blocks[1:]) and member_of(wrapper.aio.chain)
    if block is not None or mine or gate.holder == who:
        return
    if (_running_loop() is None or in_bridge()) and gate.acquire(who, session):
        gate.release(who)


def current_connection(alias: str) -> Any:
    """The connection with which something of the running task or thread begins."""
    return connections[alias]


def _connection(chain: Chain, handler: ConnectionHandler, alias: str, who: Any) -> Any:
    """The connection of a chain that it has not used yet: of a transaction that it is in, or new.

    A task that was started in a transaction may have begun with another database.
    """
    wrapper = None
    if alias in chain.refused:
        raise TransactionManagementError(chain.refused[alias])
    if innermost.get() is not None or sessions.known.get():
        wrapper = _join(who, alias)
    return wrapper or chain.connection(handler, alias)


def setitem(self: ConnectionHandler, alias: str, wrapper: BaseDatabaseWrapper) -> None:
    """`connections[alias] = wrapper`, for the chain or thread that says it."""
    chain = _acting() if self is connections else None
    if chain is None and self is connections and _running_loop() is not None:
        task = _current_task()
        chain = None if task is None else _own(task)
    if chain is None:
        _inherited_setitem(self, alias, wrapper)
    else:
        chain.wrappers[alias] = wrapper


def delitem(self: ConnectionHandler, alias: str) -> None:
    """`del connections[alias]`. Raises AttributeError, as Django does, where there is none."""
    chain = _acting() if self is connections else None
    if chain is None:
        BaseConnectionHandler.__delitem__(self, alias)
    elif alias in chain.wrappers:
        del chain.wrappers[alias]
    else:
        raise AttributeError(f"This chain has no connection {alias!r}.")


def all_connections(upstream: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """`connections.all()`: with `initialized_only` those that this chain or thread has used."""

    @functools.wraps(upstream)
    def all(self: Any, initialized_only: bool = False) -> list[Any]:
        if not initialized_only or self is not connections:
            return upstream(self, initialized_only)
        chain = _acting()
        if chain is not None:
            return list(chain.wrappers.values())
        in_task = _running_loop() is not None and _current_task() is not None
        return [] if in_task else upstream(self, initialized_only)

    return all


def begin_request() -> None:
    """A request begins in the running task: it shares nothing with who has started the server."""
    sessions.begin_request(_acting())
    observers.begin_request()
    for alias in connections if settings.DEBUG else ():
        current_connection(alias)  # whose log is that of the tasks that the request starts


def refusal() -> TransactionManagementError | None:
    """The error of a guest that was left behind in a transaction, for one that was."""
    guest = guests.get(_thread()) if _running_loop() is None else None
    refused = {} if guest is None else guest.chain.refused
    return TransactionManagementError(next(iter(refused.values()))) if refused else None


def _begin_anew() -> None:
    """In the child of a fork: it has neither the transactions of its parent nor its connections.

    They are the parent's. Nothing is sent and nothing is closed, which the parent would notice.
    """
    for chain in {*_tasks.values(), *(guest.chain for guest in guests.values())}:
        for wrapper in chain.wrappers.values():
            pool.disown(wrapper)
        chain.wrappers.clear()
    _tasks.clear()
    guests.clear()
    _joined.clear()
    pool.disown_stores()


os.register_at_fork(after_in_child=_begin_anew)
