"""Finds the waits that native mode must not have, and counts the others.

A fault is a statement that blocks the loop, or one that Django's code (not the test's own) hands to
a thread. What a test does in threads of its own is its business: the loop goes on meanwhile.

The counters are touched by the thread of the loop, the list of faults by any thread.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import SyncToAsync

# Who asked for the thread that this code runs in: the name of a module.
_asked_by: ContextVar[str] = ContextVar("asked_by", default="")


class Waits:
    """What was seen. `faults` holds one description with its stack for each fault."""

    def __init__(self) -> None:
        self.cooperative = 0  # waits during which the loop went on
        self.threads = 0  # in threads that tests started
        self.faults: list[str] = []

    def judge(self, what: str) -> None:
        """A statement is about to block this thread."""
        if asyncio._get_running_loop() is not None:
            self._fault(f"{what} blocks the loop")
        elif _asked_by.get().startswith(("django.", "django_aio.")):
            self._fault(f"{what} in a thread that {_asked_by.get()} asked for")
        else:
            self.threads += 1

    def _fault(self, message: str) -> None:
        stack = traceback.format_stack(limit=40)[:-3]
        self.faults.append(f"{message}, in {threading.current_thread().name}:\n{''.join(stack)}")


def watch(waits: Waits) -> None:
    """Watch the drivers, and who asks for threads, from now on."""
    _note_who_asks()
    if importlib.util.find_spec("psycopg"):
        _watch_psycopg(waits)
    _watch_sqlite(waits)


def _note_who_asks() -> None:
    init, call = SyncToAsync.__init__, SyncToAsync.__call__

    @functools.wraps(init)
    def noting_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        frame = sys._getframe(1)
        while frame.f_back and frame.f_globals["__name__"].startswith("asgiref."):
            frame = frame.f_back
        self._asked_by = frame.f_globals["__name__"]

    @functools.wraps(call)
    async def noting_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # What the series has made when it was applied is older than this.
        token = _asked_by.set(getattr(self, "_asked_by", "django_aio"))
        try:
            return await call(self, *args, **kwargs)
        finally:
            _asked_by.reset(token)

    SyncToAsync.__init__ = noting_init  # type: ignore[method-assign]
    SyncToAsync.__call__ = noting_call  # type: ignore[method-assign]


def _judged(waits: Waits, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        waits.judge(what)
        return function(*args, **kwargs)

    return call


def _watch_psycopg(waits: Waits) -> None:
    import psycopg

    from django_aio.bridge import in_bridge
    from django_aio.db.backends.postgresql.connection import CooperativeConnection

    cooperative = CooperativeConnection.wait

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        waits.cooperative += in_bridge()
        return cooperative(self, *args, **kwargs)

    CooperativeConnection.wait = counting  # type: ignore[method-assign]
    psycopg.Connection.wait = _judged(  # type: ignore[method-assign]
        waits, "a wait of psycopg", psycopg.Connection.wait
    )
    connect = vars(psycopg.BaseConnection)["_connect_gen"].__func__

    # Not `connect()`: our class calls psycopg's, which waits by what is ours.
    def judging(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if issubclass(cls, psycopg.Connection):
            waits.judge("psycopg.connect()")
        return connect(cls, *args, **kwargs)

    psycopg.BaseConnection._connect_gen = classmethod(judging)  # type: ignore[assignment]


def _watch_sqlite(waits: Waits) -> None:
    from django.db.backends.sqlite3.base import SQLiteCursorWrapper

    from django_aio.db.backends.sqlite3.calls import SQLiteCalls

    for name in ("execute", "executemany", "fetchone", "fetchmany", "fetchall"):
        method = getattr(SQLiteCursorWrapper, name)
        setattr(SQLiteCursorWrapper, name, _judged(waits, f"sqlite3's {name}()", method))

    hop = SQLiteCalls.call

    def counting(self: Any, *args: Any) -> Any:
        waits.cooperative += 1
        return hop(self, *args)

    SQLiteCalls.call = counting  # type: ignore[method-assign]
