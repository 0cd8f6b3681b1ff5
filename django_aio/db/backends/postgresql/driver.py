"""How a chain leases, judges and drops a psycopg connection."""

from __future__ import annotations

import concurrent.futures
import weakref
from typing import TYPE_CHECKING, Any, TypeGuard

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.signals import connection_created

from django_aio.conf import OURS, is_below
from django_aio.db.backends.postgresql.connection import IDLE, INTRANS, CooperativeConnection
from django_aio.db.state import on_loop
from django_aio.policy.parts import module_of

if TYPE_CHECKING:
    import psycopg
    from django.dispatch import Signal
    from psycopg_pool import ConnectionPool

    from django_aio.db.backends.postgresql.pool import BridgePool
    from django_aio.db.types import Managed


class PostgreSQLDriver:
    """The driver of Django's PostgreSQL backend, and of all that derive from it.

    The methods that end something wait for nothing. Any thread may call them.
    """

    def adopt(self, wrapper: Managed) -> None:
        """Have the connection come from its loop's pool, if it has a loop and is to be pooled."""
        pooled = wrapper.settings_dict["OPTIONS"].get("pool") and wrapper.alias != NO_DB_ALIAS
        wrapper.aio.pooled = bool(pooled) and wrapper.aio.loop is not None
        wrapper.aio.stateful = not type(wrapper).__module__.startswith("django.")

    def is_idle(self, wrapper: Managed) -> bool:
        """Whether the server has no transaction open and no statement running."""
        return bool(wrapper.connection.pgconn.transaction_status == IDLE)

    def is_lost(self, wrapper: Managed) -> bool:
        """Whether the connection is known to be closed."""
        return bool(getattr(wrapper.connection, "is_lost", False))

    def is_intact(self, wrapper: Managed) -> bool:
        """Whether the server has not given up the transaction, which it may not have begun."""
        connection = wrapper.connection
        return connection is not None and connection.pgconn.transaction_status in (IDLE, INTRANS)

    def tidy(self, wrapper: Managed) -> None:
        """Close the server-side cursors whose iterators were left."""
        connection = wrapper.connection
        if getattr(connection, "forgotten", None):
            with wrapper.wrap_database_errors:
                connection.close_forgotten()

    def may_stay_open(self, wrapper: Managed) -> bool:
        """Whether the next chain may have the connection, at the end of this one."""
        connection = wrapper.connection
        _lose_streams(connection)
        # It belongs to a pool, or a cursor must be closed first.
        if getattr(connection, "_pool", None) is not None or connection.must_close():
            return False
        return not (connection.touched or connection.is_altered)

    def drop(self, wrapper: Managed) -> None:
        """Return the connection to its pool if it is idle; else close it, which rolls back.

        The close sends one message and does not wait for the server.
        """
        connection, wrapper.connection = wrapper.connection, None
        _lose_streams(connection)
        lender = getattr(connection, "_pool", None)
        if lender is None or connection.pgconn.transaction_status != IDLE:
            _shut(connection)
        if lender is not None:
            _give_back(lender, connection)

    def sever(self, wrapper: Managed) -> None:
        """Close the connection, whatever it is doing; whoever waits for it gets an error."""
        connection, wrapper.connection = wrapper.connection, None
        _lose_streams(connection)
        _shut(connection)
        lender = getattr(connection, "_pool", None)
        if lender is not None:
            _give_back(lender, connection)

    def interrupt(self, wrapper: Managed) -> concurrent.futures.Future[None] | None:
        """Cancel the connection's statement on the server."""
        connection = wrapper.connection
        if isinstance(connection, CooperativeConnection) and not connection.is_lost:
            return connection.interrupt()
        return None

    def lease(self, wrapper: Managed) -> Any:
        """Return a pooled connection, if connecting would change nothing else on the wrapper."""
        pool = wrapper.aio.pool
        if (
            pool is None
            or pool.closed
            # Also False before the first connect, and after a close inside a transaction.
            or not wrapper.autocommit
            or not wrapper.settings_dict["AUTOCOMMIT"]
            or wrapper.errors_occurred
            or (connection_created.receivers and not _only_djangos(connection_created))
        ):
            return None
        found = pool.take()
        if found is None:
            with wrapper.wrap_database_errors:
                found = pool.getconn()
            _set_right(wrapper, found)
        return found

    def touch(self, wrapper: Managed) -> None:
        """Note that a project's code has the connection: it is reset before its next lease."""
        if isinstance(wrapper.connection, CooperativeConnection):
            wrapper.connection.touched = True

    def connected(self, wrapper: Managed) -> None:
        """Note that the settings of Django and its receivers are not a chain's."""
        if isinstance(wrapper.connection, CooperativeConnection):
            wrapper.connection.begin()

    def has_rows(self, wrapper: Managed) -> bool:
        """Whether somebody reads a server-side cursor."""
        return bool(getattr(wrapper.connection, "open_streams", None))

    def has_free(self, wrapper: Any) -> bool:
        """Whether the pool has a connection ready, or may open one."""
        return not is_of_loop(wrapper.pool) or bool(wrapper.pool.has_free())

    def may_keep(self, wrapper: Managed) -> bool:
        """Whether the connection is idle, without errors, and of the loop's pool."""
        if wrapper.errors_occurred or not self.is_idle(wrapper):
            return False
        return is_of_loop(wrapper.connection._pool)

    def part(self, wrapper: Managed) -> None:
        """Return the kept connection to its pool. Called on its loop."""
        kept, wrapper.aio.kept = wrapper.aio.kept, None
        kept._pool.keep_at_hand(kept)


def is_of_loop(pool: object) -> TypeGuard[BridgePool]:
    """Whether a pool is a loop's. Django's own serves code that stops the loop."""
    return hasattr(pool, "putconn_soon")


def _give_back(lender: BridgePool | ConnectionPool[Any], connection: Any) -> None:
    if is_of_loop(lender):
        on_loop(lender.loop, lender.putconn_soon, connection, otherwise=connection.shut)
        return
    # A connection that was opened before the series was applied cannot tell what was done with it:
    # tests/db/backends/test_opened_before.py.
    known = isinstance(connection, CooperativeConnection)
    if not known or connection.touched or connection.is_altered:
        _shut(connection)
    lender.putconn(connection)


def _shut(connection: psycopg.Connection[Any]) -> None:
    if isinstance(connection, CooperativeConnection):
        connection.shut()
    else:
        connection.close()


def _lose_streams(connection: psycopg.Connection[Any]) -> None:
    if isinstance(connection, CooperativeConnection):
        connection.lose_streams()


def _set_right(wrapper: Any, face: CooperativeConnection) -> None:
    """Set the modes that Django sets on a pooled connection: a project may have changed them."""
    if not face.autocommit:
        face.autocommit = True
    if "isolation_level" in wrapper.settings_dict["OPTIONS"]:
        face.isolation_level = wrapper.isolation_level


def _only_djangos(signal: Signal) -> bool:
    """Whether nobody but Django listens to a signal.

    Django's receivers of `connection_created` prepare the physical connection once and for all.
    """
    receivers = (entry[1] for entry in signal.receivers)
    alive = (each() if isinstance(each, weakref.ReferenceType) else each for each in receivers)
    return all(each is None or is_below(module_of(each), OURS) for each in alive)
