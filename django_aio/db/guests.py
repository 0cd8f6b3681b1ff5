"""Guests: threads and coroutines that act for a chain while its owner waits for them (R1, R8).

`sync_to_async()` lets a thread in, `async_to_sync()` a coroutine. Each is a guest for as long as
its function runs. A caller that is cancelled does not wait for its guest: the guest is left behind.

- Outside a transaction of the caller, the thread finishes its work. The connections that it uses
  become its own, in a chain of its own; the caller goes on with others.
- Inside a transaction of the caller, the guest's next statement raises, its running statement is
  cancelled on the server, and the block that it was let into can only be rolled back.

A guest is made by the task that waits, and written by that task and the guest's thread, under
`_lock`. Guarded by `tests/db/test_guests.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync
from django.db.utils import ConnectionHandler

from django_aio.bridge import in_bridge, wait
from django_aio.db import chains, sessions
from django_aio.db.blocks import Block, Session, innermost
from django_aio.db.handler import connection_of
from django_aio.db.state import guests, on_loop, thread_id
from django_aio.db.statements import interrupt, own_block

C = TypeVar("C", bound="SyncToAsync[..., Any] | AsyncToSync[..., Any]")

LEFT_BEHIND = (
    "The coroutine that waited for this thread was cancelled, and the transaction that the thread "
    "worked in is rolled back with it. The thread cannot go on in it. To have its work done all "
    "the same, open the transaction inside the function that runs in the thread."
)
SPOILED = (
    "A thread that this block waited for was left behind when the wait was cancelled, so the block "
    "was rolled back: half of the thread's work may be missing. Let the cancellation leave the "
    "block, or put a block of its own round what may be cancelled."
)


class Guest:
    """One thread that acts for a chain while the function of one `sync_to_async()` runs."""

    __slots__ = (
        "__weakref__",
        "_begun",
        "_done",
        "_entered",
        "_lock",
        "_manual",
        "chain",
        "left",
        "tasks",
    )

    def __init__(self, chain: chains.Chain, joined: dict[str, Block] | None = None) -> None:
        self.chain = chain
        self.left = False  # whether it was left behind
        self.tasks: set[asyncio.Task[Any]] = set()  # its coroutines, which act for the chain too
        self._lock = threading.Lock()
        self._begun = self._done = False
        # The transactions that the caller is in: the guest's statements begin in these blocks.
        self._entered: dict[str, Block] = {}
        self._manual: set[str] = set()  # aliases where the caller has switched autocommit off
        for alias, wrapper in chain.wrappers.items():
            block = own_block(wrapper)
            if block is not None and not isinstance(block, Session):
                self._entered[alias] = block
            elif wrapper.connection is not None and not wrapper.autocommit:
                self._manual.add(alias)
        for alias, block in (joined or {}).items():
            chains.joins(self, alias, block)
            if block.open and not isinstance(block, Session):
                self._entered[alias] = block

    def __str__(self) -> str:
        return "a thread that a coroutine waits for"

    def connection(self, handler: ConnectionHandler, alias: str) -> Any:
        """Return a connection that the chain has not used yet. Called by the guest's thread."""
        with self._lock:
            return connection_of(self.chain, handler, alias, self)

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Act for the chain. Called in the guest's thread, round its function."""
        thread = thread_id()
        before = guests.get(thread)
        with self._lock:
            self._begun = True
        guests[thread] = self
        try:
            yield
        finally:
            if before is None:
                del guests[thread]
            else:
                guests[thread] = before
            with self._lock:
                self._done = True
            if self.left:
                self._end_own()

    def as_guest(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls `func` and acts for the chain while it runs."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.acting():
                return func(*args, **kwargs)

        return call

    def leave(self) -> None:
        """Leave the guest behind, unless it is done. Called in the caller's task; does not wait."""
        with self._lock:
            if self._done:
                return
            self.left = True
            chain, own = self.chain, chains.Chain(self.chain.loop)
            for alias, block in chains.joined_by(self).items():  # by its own first statement
                if not isinstance(block, Session):
                    self._entered[alias] = block
            actors = {self, *self.tasks}
            for alias, block in self._entered.items():
                own.refused[alias] = LEFT_BEHIND
                for who in actors:
                    block.turns.ban(who, LEFT_BEHIND)
                if self._begun:
                    spoil(block, actors)
            for alias, wrapper in list(chain.wrappers.items()) if self._begun else []:
                if wrapper.aio.session is not None and wrapper.aio.session.joins:
                    # Both go on in the session, in turn: the caller's next statement needs its
                    # state.
                    chains.joins(self, alias, wrapper.aio.session)
                elif alias in self._manual:
                    own.refused[alias] = LEFT_BEHIND
                    wrapper.aio.driver.sever(wrapper)
                elif alias not in own.refused:
                    del chain.wrappers[alias]
                    own.wrappers[alias] = wrapper
                    wrapper.aio.chain = own
            self.chain = own
            for task in self.tasks:
                chains.tasks[task] = own

    def _end_own(self) -> None:
        """End the guest's own chain: its function has returned after it was left behind."""
        chain = self.chain
        if chain.loop is None:
            chain.abandon()
        else:
            on_loop(chain.loop, chain.end, otherwise=chain.abandon)


def spoil(block: Block, actors: Collection[Any]) -> None:
    """Make a block roll back, because a guest in it was left behind. Does not wait.

    A statement that one of the `actors` has running in it is cancelled.
    """
    turns = block.turns
    if not block.open:
        return
    turns.cut(block, LEFT_BEHIND)
    block.spoiled = SPOILED
    block.wrapper.needs_rollback = True
    if turns.holder in actors:
        interrupt(block.wrapper)


def sync_to_async_call(
    upstream: Callable[..., Awaitable[Any]],
) -> Callable[..., Awaitable[Any]]:
    """`SyncToAsync.__call__`: the thread is a guest of the task that waits for it."""

    @functools.wraps(upstream)
    async def __call__(self: SyncToAsync[..., Any], *args: Any, **kwargs: Any) -> Any:
        task = asyncio.current_task()
        if task is None:
            return await upstream(self, *args, **kwargs)
        chain = chains.chain_of_task(task)
        chain.part()
        guest = Guest(chain, chains.joined_by(task))

        crossing = _copied(self)
        if type(self).thread_handler is SyncToAsync.thread_handler:
            crossing.func = guest.as_guest(self.func)
        else:  # a package that does more in the thread, before and afterwards
            handler: Any = type(self).thread_handler
            handler = functools.partial(handler, crossing)
            crossing.thread_handler = guest.as_guest(handler)  # type: ignore[method-assign]
        before = contextvars.copy_context()
        try:
            return await upstream(crossing, *args, **kwargs)
        except BaseException:
            guest.leave()
            if guest.left:
                # asgiref brings back what the thread has set in the context: the block that it is
                # in, and the executor through which its own coroutines reach it. Undo both.
                innermost.set(before.get(innermost))
                AsyncToSync.executors.current = before.run(_executor)
            raise

    return __call__


def _executor() -> Any:
    """The executor of the thread that waits for this coroutine, as asgiref keeps it, or None."""
    return getattr(AsyncToSync.executors, "current", None)


def async_to_sync_call(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`AsyncToSync.__call__`: the coroutine's task is a guest of the thread that waits for it.

    Inside the bridge the coroutine is awaited in the same task.
    """

    @functools.wraps(upstream)
    def __call__(self: AsyncToSync[..., Any], *args: Any, **kwargs: Any) -> Any:
        if in_bridge():
            return wait(_called(self.awaitable, args, kwargs))
        if asyncio._get_running_loop() is not None:
            return upstream(self, *args, **kwargs)  # asgiref says what is wrong
        guest = guests.get(thread_id())
        if guest is not None:
            return upstream(_rooted(self, guest), *args, **kwargs)
        lent = chains.ThreadChain()
        joined = chains.joined_by(threading.current_thread())
        with lent.lent():
            guest = Guest(lent, joined)
            return upstream(_rooted(self, guest, lent.base_blocks), *args, **kwargs)

    return __call__


async def _called(
    awaitable: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call the function inside a coroutine, as asgiref does: `hooks.py` finds the awaiter by it."""
    return await awaitable(*args, **kwargs)


def _rooted(
    call: AsyncToSync[..., Any], guest: Guest, begin: Callable[[], None] | None = None
) -> AsyncToSync[..., Any]:
    """Copy `call` so that its coroutine, after `begin()`, acts for the chain while it runs."""
    awaitable = call.awaitable

    async def root(*args: Any, **kwargs: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        before, known = innermost.get(), sessions.known.get()
        if begin is not None:
            begin()
        chains.tasks[task] = guest.chain
        for alias, block in chains.joined_by(guest).items():
            chains.joins(task, alias, block)
        guest.tasks.add(task)
        try:
            return await awaitable(*args, **kwargs)
        finally:
            guest.tasks.discard(task)
            chains.tasks.pop(task, None)
            guest.chain.part()
            innermost.set(before)
            if begin is not None:
                sessions.known.set(known)

    crossing = _copied(call)
    crossing.awaitable = root
    return crossing


def _copied(call: C) -> C:
    """Copy an object as `copy.copy()` does, without its look-ups: this runs at each crossing."""
    copied = object.__new__(type(call))
    vars(copied).update(vars(call))
    return copied
