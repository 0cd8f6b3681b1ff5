"""The SQLite driver: how a chain judges and drops a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_aio.db.backends.driver import SimpleDriver
from django_aio.db.backends.sqlite3.connection import LockedConnection
from django_aio.db.backends.sqlite3.worker import close_soon, in_transaction, interrupt
from django_aio.db.state import on_loop
from django_aio.loops import store

if TYPE_CHECKING:
    from django_aio.db.backends.sqlite3.memory import MemoryPool
    from django_aio.db.types import Managed


class SQLiteDriver(SimpleDriver):
    """The driver of Django's SQLite backend, and of all that derive from it."""

    def adopt(self, wrapper: Any) -> None:
        """Note whether it is an in-memory database, which is leased. Its thread begins later."""
        shared = wrapper.aio.loop is not None and wrapper.is_in_memory_db()
        wrapper.aio.pooled = wrapper.aio.shared = shared

    def is_idle(self, wrapper: Managed) -> bool:
        """Whether no transaction is open. sqlite3 knows without touching the file."""
        return in_transaction(wrapper.connection) is False

    def is_lost(self, wrapper: Managed) -> bool:
        """Whether the connection was closed under the wrapper."""
        return in_transaction(wrapper.connection) is None

    def is_intact(self, wrapper: Managed) -> bool:
        """Whether the transaction is still open: an interrupted write has rolled it back."""
        return in_transaction(wrapper.connection) is True

    def drop(self, wrapper: Managed) -> None:
        """Have the thread close the connection and end; SQLite rolls an open transaction back."""
        state = wrapper.aio
        worker, connection = state.worker, wrapper.connection
        wrapper.connection = state.worker = None
        if state.shared:
            on_loop(state.loop, _give_back, state.pool, otherwise=_nothing)  # type: ignore[arg-type]
        else:
            close_soon(state.loop, worker, connection)

    sever = drop

    def connected(self, wrapper: Managed) -> None:
        """Note that the settings of Django and its receivers are not a chain's."""
        if isinstance(wrapper.connection, LockedConnection):
            wrapper.connection.begin()

    def may_stay_open(self, wrapper: Managed) -> bool:
        """Whether no project has used the connection past Django."""
        connection = wrapper.connection
        if isinstance(connection, LockedConnection) and connection.touched:
            return False
        return connection.row_factory is None and connection.text_factory is str

    def has_free(self, wrapper: Managed) -> bool:
        """Whether nobody has the one connection of an in-memory database."""
        pool = store(wrapper.aio.loop).pools.get(wrapper.alias) if wrapper.aio.shared else None
        return pool is None or pool.is_free()  # type: ignore[attr-defined]

    def interrupt(self, wrapper: Managed) -> None:
        """Interrupt the running statement."""
        if wrapper.connection is not None:
            interrupt(wrapper.connection)


def _give_back(pool: MemoryPool) -> None:
    store().start(pool.give_back())


def _nothing() -> None:
    """Do nothing: the one connection of an in-memory database has closed with its loop."""
