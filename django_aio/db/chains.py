"""A connection belongs to a call chain.

Django ties a connection to a thread. Under a loop all requests share one thread, so here it is tied
to the chain of calls: a task and whatever it waits for.

- R1. Crossing a boundary changes nothing. A caller that crosses one (`run()`, `sync_to_async`,
  `async_to_sync`) is suspended, so the callee is its guest: it uses the caller's connections, in
  the caller's transaction.
- R2. A new task starts a new chain, with connections of its own.
- R3. Except inside a transaction: a task that starts there joins it (`turns.py`).
- R5. When the owner ends, its connections are returned, kept for the next chain as `CONN_MAX_AGE`
  asks, or closed. The end needs no `await`, so it works while the loop shuts down.

In a plain thread, and in a callback of the loop that belongs to no task, connections are Django's
own, untouched. `tasks` and `guests` (`guests.py`) say who acts for which chain; each entry is
written by the task or thread that it names. Guarded by `tests/db/test_chains.py`,
`tests/db/test_guests.py` and `tests/test_loops.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.transaction import TransactionManagementError
from django.db.utils import ConnectionHandler
from django.utils.connection import BaseConnectionHandler

from django_aio.db import blocks, connecting, generators, idle, leases, observers, sessions
from django_aio.db.backends.registry import driver_of
from django_aio.db.blocks import Block, Session, ended, innermost, is_inside, joinable
from django_aio.db.state import State, guests
from django_aio.db.turns import Turns
from django_aio.loops import disown_stores

if TYPE_CHECKING:
    from django_aio.db.types import Managed, Member
    from django_aio.db.visits import Visit

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
        # By alias, why a guest that was left behind may not have a connection any more (R8).
        self.refused: dict[str, str] = {}
        if loop is not None:
            idle.shelves(loop).chains.add(self)

    def connection(self, handler: ConnectionHandler, alias: str) -> Any:
        """The logical connection of an alias, made or taken from the shelves at its first use."""
        wrapper = self.wrappers.get(alias)
        if wrapper is None:
            wrapper = self.wrappers[alias] = self._new(handler, alias)
        return wrapper

    def _new(self, handler: ConnectionHandler, alias: str) -> Any:
        if alias not in handler.settings:
            raise handler.exception_class(f"The connection '{alias}' doesn't exist.")
        assert self.loop is not None
        wrapper = idle.take(alias, self.loop)
        if wrapper is None:
            wrapper = manage(handler.create_connection(alias), self)
            connecting.remember(wrapper)
        wrapper.aio.chain = self
        observers.take_over(wrapper)
        if wrapper.aio.stateful:
            sessions.begin(wrapper, joins=True)  # it may get a tenant before its first cursor
        return wrapper

    def part(self) -> None:
        """Release the connections whose leases have ended: another thread is to use the chain."""
        for wrapper in self.wrappers.values():
            leases.part(wrapper)

    def end(self) -> None:
        """Return every connection, without waiting. Called on the loop."""
        self.ended = True
        while self.wrappers:
            _, wrapper = self.wrappers.popitem()
            idle.give_back(wrapper)
        if self.loop is not None:
            idle.shelves(self.loop).chains.discard(self)

    def abandon(self) -> list[asyncio.Task[Any]]:
        """Close every connection, because the loop cannot take one back any more. Any thread.

        Returns the tasks that acted for the chain.
        """
        self.ended = True
        members = [task for task, chain in list(tasks.items()) if chain is self]
        for task in members:
            del tasks[task]
        while self.wrappers:
            _, wrapper = self.wrappers.popitem()
            idle.sever(wrapper)
        return members


class ThreadChain(Chain):
    """The connections of a plain thread, lent to the coroutine that it waits for."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None)
        local = connections._connections  # type: ignore[attr-defined]
        for alias in connections.settings:
            wrapper = getattr(local, alias, None)
            # A thread that has joined a transaction uses its connection, not one of its own.
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
                blocks.note_spoiled(wrapper)
                if wrapper.aio is not None:
                    sessions.release(wrapper)
                wrapper.aio = None
            for alias in before.keys() - self.wrappers.keys():
                BaseConnectionHandler.__delitem__(connections, alias)
            for alias, wrapper in self.wrappers.items():
                if before.get(alias) is not wrapper:
                    # The coroutine made it in its loop's thread; from here on it is this thread's.
                    wrapper._thread_ident = _thread()
                    BaseConnectionHandler.__setitem__(connections, alias, wrapper)

    def base_blocks(self) -> None:
        """Make the thread's open transactions those of the coroutine that begins. Called in it.

        In a request the coroutine's tasks share the thread's other connections too, instead of
        opening their own. With a pool that is needed only where a raw cursor has set state.
        """
        for wrapper in self.wrappers.values():
            if wrapper.in_atomic_block:
                turns = wrapper.aio.turns = Turns()
                block = Block(wrapper, turns, innermost.get())
                turns.push(block)
                innermost.set(block)
        for alias, options in connections.settings.items() if sessions.of_a_request.get() else ():
            touched = hasattr(self.wrappers.get(alias), leases.RAW_CURSOR)
            if touched or not options["OPTIONS"].get("pool"):
                wrapper = self.connection(connections, alias)
                if wrapper.aio.turns is None:
                    sessions.begin(wrapper, joins=True)


def manage(wrapper: Any, chain: Chain) -> Managed:
    """Make a logical connection part of a chain."""
    driver = driver_of(type(wrapper))
    wrapper.aio = State(chain, driver, chain.loop)
    driver.adopt(wrapper)
    managed: Managed = wrapper
    return managed


tasks: dict[asyncio.Task[Any], Chain] = {}

# The transactions that a task or thread has joined, by alias. A task that outlives one must not
# find itself in autocommit mode: tests/db/test_joining.py, test_a_task_that_outlives_the_block.
joined_blocks: weakref.WeakKeyDictionary[Member, dict[str, Block]] = weakref.WeakKeyDictionary()

# The call of asyncio.to_thread() that this context runs in, if that began in a block: visits.py.
visiting: ContextVar[Visit | None] = ContextVar("django_aio_visit", default=None)

# Where asgiref's Local keeps the connections of plain threads. Asking it directly costs a plain
# thread no more than in stock Django; Local would look for a loop again.
of_thread = vars(connections._connections).get("_storage")  # type: ignore[attr-defined]
if not isinstance(of_thread, threading.local):
    of_thread = threading.local()  # another asgiref: never found there


def member_of(chain: Chain | None) -> bool:
    """Whether the running task or thread acts for the chain: its owner, or a guest.

    A connection that belongs to no chain, such as a copy, is used by whoever has it.
    """
    if chain is None:
        return True
    if _running_loop() is not None:
        task = _current_task()
        if task is not None:
            return tasks.get(task) is chain
    guest = guests.get(_thread())
    return guest is not None and guest.chain is chain


def _ended(task: asyncio.Task[Any]) -> None:
    chain = tasks.pop(task, None)
    if chain is not None:
        chain.end()


def chain_of_task(task: asyncio.Task[Any]) -> Chain:
    """The chain of `task`, made at its first use of a connection."""
    chain = tasks.get(task)
    if chain is None:
        chain = tasks[task] = Chain(task.get_loop())
        task.add_done_callback(_ended)
    return chain


def acting_chain() -> Chain | None:
    """The chain that the running task or thread acts for, if it has one."""
    if _running_loop() is None:
        guest = guests.get(_thread()) if guests else None
        return None if guest is None else guest.chain
    task = _current_task()
    return None if task is None else tasks.get(task)


def join_transaction(who: Member, alias: str) -> Managed | None:
    """The connection of the transaction that `who` was started in, or None."""
    block = _block_of(who, alias)
    visit = visiting.get()
    if visit is not None:
        visit.join(alias, block)
    return None if block is None else block.wrapper


def _block_of(who: Member, alias: str) -> Block | None:
    """The block that `who` has joined, or joins now, on a connection of that alias."""
    block = joined_blocks.get(who, {}).get(alias)
    # A thread of an executor serves one context after another: tests/db/test_joining.py,
    # test_one_thread_in_one_transaction_after_another.
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


def joined_by(who: Member) -> dict[str, Block]:
    """The blocks that a task or thread has joined, by alias."""
    return joined_blocks.get(who, {})


def joins(who: Member, alias: str, block: Block) -> None:
    """Note that a task, thread or guest has joined the transaction of a block."""
    joined_blocks.setdefault(who, {})[alias] = block


def of_plain_thread(wrapper: Managed) -> bool:
    """Whether the running thread uses a connection of its own, outside any chain.

    Tasks of a loop that the thread runs now and then may have joined its transaction, but they do
    not run while the thread's own code does.
    """
    return (
        _running_loop() is None
        and wrapper.aio.loop is None
        and _thread() not in guests
        and getattr(of_thread, wrapper.alias, None) is wrapper
    )


def refusal() -> TransactionManagementError | None:
    """The error to raise in a guest that was left behind in a transaction, else None."""
    guest = guests.get(_thread()) if _running_loop() is None else None
    refused = {} if guest is None else guest.chain.refused
    return TransactionManagementError(next(iter(refused.values()))) if refused else None


def _begin_anew() -> None:
    """Forget the transactions and connections of the parent, in the child of a fork.

    Nothing is sent or closed: the parent would notice. Guarded by `tests/test_loops.py`.
    """
    for chain in {*tasks.values(), *(guest.chain for guest in guests.values())}:
        for wrapper in chain.wrappers.values():
            idle.disown(wrapper)
        chain.wrappers.clear()
    tasks.clear()
    guests.clear()
    joined_blocks.clear()
    disown_stores()


os.register_at_fork(after_in_child=_begin_anew)
