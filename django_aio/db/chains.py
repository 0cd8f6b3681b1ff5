"""A connection belongs to a call chain.

Django ties a connection to a thread. Under a loop all requests share one thread, so here it is tied
to the task that opened it: every task is the owner of a chain, and a chain has one logical
connection (Django's `DatabaseWrapper`) per alias. Two tasks never share one, so `gather()` of five
queries runs five queries at the same time.

- In a coroutine and in code that `run()` started, `connections[alias]` is the task's own.
- In a plain thread, and in a callback of the loop that belongs to no task, it is Django's own.
- When a task ends, its connections are returned, kept for the next chain as `CONN_MAX_AGE` asks, or
  closed where a transaction is open. The end needs no `await`: it works while the loop shuts down.

Each chain is touched by the thread of its task's loop only.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler
from django.utils.connection import BaseConnectionHandler

from django_aio.db import pool
from django_aio.db.backends.threaded import adopt

_current_task = asyncio.current_task
_running_loop = asyncio._get_running_loop


class Chain:
    """The logical connections of one task. Touched by the thread of the task's loop only."""

    __slots__ = ("wrappers",)

    def __init__(self) -> None:
        self.wrappers: dict[str, BaseDatabaseWrapper] = {}

    def end(self) -> None:
        """Give every connection back, without waiting."""
        while self.wrappers:
            _, wrapper = self.wrappers.popitem()
            pool.give_back(wrapper)


# The owner of a chain is looked up here rather than in a context variable: a copied context
# (create_task, asgiref, a web server) must not bring its chain along, and code that runs in a
# copied context of the same task must find it.
_chains: dict[asyncio.Task[Any], Chain] = {}


def _task() -> asyncio.Task[Any] | None:
    """The task that is running in this thread, or None in a plain thread or a loop's callback."""
    return None if _running_loop() is None else _current_task()


def _ended(task: asyncio.Task[Any]) -> None:
    chain = _chains.pop(task, None)
    if chain is not None:
        chain.end()


def _own(task: asyncio.Task[Any]) -> Chain:
    """The chain of `task`, made at its first use of a connection."""
    chain = _chains.get(task)
    if chain is None:
        chain = _chains[task] = Chain()
        task.add_done_callback(_ended)
    return chain


_inherited_getitem = BaseConnectionHandler.__getitem__


def getitem(self: ConnectionHandler, alias: str) -> BaseDatabaseWrapper:
    """`connections[alias]`: the task's logical connection, or in a plain thread the thread's."""
    task = None if _running_loop() is None or self is not connections else _current_task()
    if task is None:
        return _inherited_getitem(self, alias)
    chain = _chains.get(task) or _own(task)
    wrapper = chain.wrappers.get(alias)
    if wrapper is None:
        if alias not in self.settings:
            raise self.exception_class(f"The connection '{alias}' doesn't exist.")
        wrapper = chain.wrappers[alias] = pool.take(alias) or adopt(self.create_connection(alias))
    return wrapper


def setitem(self: ConnectionHandler, alias: str, wrapper: BaseDatabaseWrapper) -> None:
    """`connections[alias] = wrapper`, for the task or thread that says it."""
    task = _task() if self is connections else None
    if task is None:
        super(ConnectionHandler, self).__setitem__(alias, wrapper)
    else:
        _own(task).wrappers[alias] = wrapper


def delitem(self: ConnectionHandler, alias: str) -> None:
    """`del connections[alias]`. Raises AttributeError, as Django does, where there is none."""
    task = _task() if self is connections else None
    if task is None:
        super(ConnectionHandler, self).__delitem__(alias)
        return
    chain = _chains.get(task)
    if chain is None or alias not in chain.wrappers:
        raise AttributeError(f"This task has no connection {alias!r}.")
    del chain.wrappers[alias]


def all_connections(
    upstream: Callable[..., list[BaseDatabaseWrapper]],
) -> Callable[..., list[BaseDatabaseWrapper]]:
    """`connections.all()`: with `initialized_only` those that this task or thread has used."""

    @functools.wraps(upstream)
    def all(self: Any, initialized_only: bool = False) -> list[BaseDatabaseWrapper]:
        task = _task() if initialized_only and self is connections else None
        if task is None:
            return upstream(self, initialized_only)
        chain = _chains.get(task)
        return [] if chain is None else list(chain.wrappers.values())

    return all
