"""The names for annotations of a logical connection, and of those who use one.

A logical connection is Django's `DatabaseWrapper` with one attribute more, `aio`. The names are for
type checkers only: at run time every wrapper is Django's, and its `aio` tells which kind it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    import asyncio
    import threading
    from typing import Any

    from django.db.backends.utils import _ExecuteParameters, _ExecuteQuery

    from django_aio.db.guests import Guest
    from django_aio.db.state import State

    class _Wrapper(BaseDatabaseWrapper):
        """Django's wrapper, with the attributes that its stubs do not list."""

        health_check_done: bool
        _thread_ident: int

    class Plain(_Wrapper):
        """The logical connection of a plain thread."""

        aio: None

    class Managed(_Wrapper):
        """The logical connection of a chain."""

        aio: State

else:
    Plain = Managed = BaseDatabaseWrapper

# A logical connection: `wrapper.aio is None` tells the two apart.
Wrapper: TypeAlias = "Plain | Managed"

# Who runs a statement, as `state.actor()` says: a task, a guest, or the id of a thread.
Actor: TypeAlias = "asyncio.Task[Any] | Guest | int"

# Who joins a transaction. A thread, not its id: another thread may get that later.
Member: TypeAlias = "asyncio.Task[Any] | Guest | threading.Thread"

# What Django's cursors execute.
Sql: TypeAlias = "_ExecuteQuery"
Params: TypeAlias = "_ExecuteParameters"
