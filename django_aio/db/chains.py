"""A connection belongs to a call chain.

Django ties a connection to a thread. Under a loop all requests share one thread, so here it is tied
to the chain of calls: a task and whatever it waits for.

- R1. Crossing a boundary changes nothing. Who calls across (`run()`, `sync_to_async`,
  `async_to_sync`) is suspended, so the callee is a guest: it uses the caller's connections, in the
  caller's transaction.
- R2. A new task starts a new chain, with connections of its own.
- R3. Except inside a transaction: there it joins (`gates.py`).
- R5. When the owner ends, its connections are returned, kept for the next chain as `CONN_MAX_AGE`
  asks, or closed where a transaction is open. The end needs no `await`: it works while the loop
  shuts down.

In a plain thread, and in a callback of the loop that belongs to no task, connections are Django's
own, untouched. `_tasks` and `_guests` say who acts for which chain: each entry is written by the
task or thread that it names.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler
from django.utils.connection import BaseConnectionHandler

from django_aio.bridge import in_bridge, wait
from django_aio.db import pool
from django_aio.db.backends.threaded import driver_of
from django_aio.db.gates import Block, Gate, ended, innermost, is_inside, joinable
from django_aio.db.state import State

C = TypeVar("C", bound="SyncToAsync[..., Any] | AsyncToSync[..., Any]")

_current_task = asyncio.current_task
_running_loop = asyncio._get_running_loop
_thread = threading.get_ident


class Chain:
    """The logical connections of one task, and of its guests while it waits for them."""

    __slots__ = ("loop", "wrappers")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        self.wrappers: dict[str, Any] = {}

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
        wrapper.aio.chain = self
        return wrapper

    def part(self) -> None:
        """Let go of connections whose leases have ended: another thread is to use the chain."""
        for wrapper in self.wrappers.values():
            pool.part(wrapper)

    def end(self) -> None:
        """Give every connection back, without waiting."""
        while self.wrappers:
            _, wrapper = self.wrappers.popitem()
            pool.give_back(wrapper)


class ThreadChain(Chain):
    """The connections of a plain thread, lent to the coroutine that it waits for."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None)
        local = connections._connections  # type: ignore[attr-defined]
        for alias in connections.settings:
            with contextlib.suppress(AttributeError):
                self.wrappers[alias] = getattr(local, alias)

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
                wrapper.aio = None
            for alias in before.keys() - self.wrappers.keys():
                BaseConnectionHandler.__delitem__(connections, alias)
            for alias, wrapper in self.wrappers.items():
                if before.get(alias) is not wrapper:
                    # Made by the coroutine, in its loop's thread: from here on it is this thread's.
                    wrapper._thread_ident = _thread()
                    _inherited_setitem(connections, alias, wrapper)

    def base_blocks(self) -> None:
        """In the coroutine that begins: the transactions that the thread has open are its own."""
        for wrapper in self.wrappers.values():
            if wrapper.in_atomic_block:
                gate = wrapper.aio.gate = Gate()
                block = Block(wrapper, gate, innermost.get())
                gate.push(block)
                innermost.set(block)


def manage(wrapper: Any, chain: Chain) -> Any:
    """Make a logical connection part of a chain."""
    driver = driver_of(type(wrapper))
    wrapper.aio = State(chain, driver, chain.loop)
    driver.adopt(wrapper)
    return wrapper


_tasks: dict[asyncio.Task[Any], Chain] = {}
_guests: dict[int, Chain] = {}

# The transactions that a task or thread has joined, by alias. A task that goes on when one has
# ended must not find itself in autocommit mode.
_joined: weakref.WeakKeyDictionary[Any, dict[str, Block]] = weakref.WeakKeyDictionary()

# Where asgiref's Local keeps the connections of plain threads. Asked directly, a plain thread pays
# no more than without us; Local would look for a loop again.
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
    return _guests.get(_thread()) is chain


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
    joined = _joined.get(task or threading.current_thread(), {})
    return wrapper.alias in joined and joined[wrapper.alias].wrapper is wrapper


def close_if_unusable_or_obsolete(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`BaseDatabaseWrapper.close_if_unusable_or_obsolete`: a coroutine leaves that to its chain.

    Django calls it when a response is closed, which a coroutine may do itself, and it may have to
    ask the server.
    """

    @functools.wraps(upstream)
    def close_if_unusable_or_obsolete(self: Any) -> None:
        if self.aio is None or _running_loop() is None or in_bridge():
            upstream(self)

    return close_if_unusable_or_obsolete


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
        return _guests.get(_thread()) if _guests else None
    task = _current_task()
    return None if task is None else _tasks.get(task)


def _join(who: Any, alias: str) -> Any:
    """The connection of the transaction that `who` was started in, or None if there is none."""
    block = _joined.get(who, {}).get(alias)
    # A thread of an executor works for one context after another.
    if block is not None and (isinstance(who, asyncio.Task) or is_inside(block)):
        if not block.open:
            raise ended()
        return block.wrapper
    found = joinable(alias)
    if found is None:
        return None
    _joined.setdefault(who, {})[alias] = found
    return found.wrapper


def of_plain_thread(wrapper: Any) -> bool:
    """Whether the running thread uses a connection of its own, outside any chain.

    Tasks of a loop that it runs now and then may have joined its transaction; while it runs itself
    they do not.
    """
    return (
        _running_loop() is None
        and wrapper.aio.loop is None
        and _thread() not in _guests
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
    _joined.setdefault(task, {})[alias] = base
    innermost.set(base)
    return wrapper


def getitem(self: ConnectionHandler, alias: str) -> Any:
    """`connections[alias]`: the chain's logical connection, or in a plain thread the thread's."""
    if _running_loop() is None:
        if self is not connections:
            return _inherited_getitem(self, alias)
        chain = _guests.get(_thread()) if _guests else None
        if chain is not None:
            return chain.wrappers.get(alias) or _connection(
                chain, self, alias, threading.current_thread()
            )
        if innermost.get() is not None:
            wrapper = _join(threading.current_thread(), alias)
            if wrapper is not None:
                return wrapper
        return getattr(_of_thread, alias, None) or _inherited_getitem(self, alias)
    task = _current_task()
    if task is None or self is not connections:
        return _inherited_getitem(self, alias)
    chain = _tasks.get(task)
    if chain is None:
        if innermost.get() is not None or task in _joined:
            wrapper = _join(task, alias)
            if wrapper is not None:
                return wrapper
        wrapper = getattr(_of_thread, alias, None)
        if wrapper is not None and wrapper.in_atomic_block:
            return _join_thread(task, alias, wrapper)
        chain = _own(task)
    return chain.wrappers.get(alias) or _connection(chain, self, alias, task)


def _connection(chain: Chain, handler: ConnectionHandler, alias: str, who: Any) -> Any:
    """The connection of a chain that it has not used yet: of a transaction that it is in, or new.

    A task that was started in a transaction may have begun with another database.
    """
    wrapper = None
    if innermost.get() is not None:
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


@contextlib.contextmanager
def _guest(chain: Chain) -> Iterator[None]:
    """Let the running thread act for `chain`."""
    thread = _thread()
    before = _guests.get(thread)
    _guests[thread] = chain
    try:
        yield
    finally:
        if before is None:
            del _guests[thread]
        else:
            _guests[thread] = before


def sync_to_async_call(
    upstream: Callable[..., Awaitable[Any]],
) -> Callable[..., Awaitable[Any]]:
    """`SyncToAsync.__call__`: the thread is a guest of the task that waits for it."""

    @functools.wraps(upstream)
    async def __call__(self: SyncToAsync[..., Any], *args: Any, **kwargs: Any) -> Any:
        task = _current_task()
        if task is None or (task not in _tasks and innermost.get() is not None):
            # A task that has joined a transaction has no chain to let a guest into: the thread
            # inherits the context and joins as well.
            return await upstream(self, *args, **kwargs)
        chain, func = _own(task), self.func
        chain.part()

        def as_guest(*args: Any, **kwargs: Any) -> Any:
            with _guest(chain):
                return func(*args, **kwargs)

        crossing = _copied(self)
        crossing.func = as_guest
        return await upstream(crossing, *args, **kwargs)

    return __call__


def async_to_sync_call(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`AsyncToSync.__call__`: the coroutine's task is a guest of the thread that waits for it.

    Inside the bridge it is simply awaited, in the same task.
    """

    @functools.wraps(upstream)
    def __call__(self: AsyncToSync[..., Any], *args: Any, **kwargs: Any) -> Any:
        if in_bridge():
            return wait(_called(self.awaitable, args, kwargs))
        if _running_loop() is not None:
            return upstream(self, *args, **kwargs)  # asgiref says what is wrong
        chain = _guests.get(_thread())
        if chain is not None:
            return upstream(_rooted(self, chain), *args, **kwargs)
        lent = ThreadChain()
        with lent.lent():
            return upstream(_rooted(self, lent, lent.base_blocks), *args, **kwargs)

    return __call__


async def _called(awaitable: Callable[..., Awaitable[Any]], args: Any, kwargs: Any) -> Any:
    """Called by a coroutine, as asgiref does: a hook (`hooks.py`) tells by that who awaits it."""
    return await awaitable(*args, **kwargs)


def _rooted(
    call: AsyncToSync[..., Any], chain: Chain, begin: Callable[[], None] | None = None
) -> AsyncToSync[..., Any]:
    """A copy of `call` whose coroutine, after `begin()`, acts for `chain` as long as it runs."""
    awaitable = call.awaitable

    async def root(*args: Any, **kwargs: Any) -> Any:
        task = _current_task()
        assert task is not None
        before = innermost.get()
        if begin is not None:
            begin()
        _tasks[task] = chain
        try:
            return await awaitable(*args, **kwargs)
        finally:
            _tasks.pop(task, None)
            chain.part()
            innermost.set(before)

    crossing = _copied(call)
    crossing.awaitable = root
    return crossing


def _copied(call: C) -> C:
    """What `copy.copy()` does, without asking how: this runs at each crossing."""
    copied = object.__new__(type(call))
    vars(copied).update(vars(call))
    return copied
