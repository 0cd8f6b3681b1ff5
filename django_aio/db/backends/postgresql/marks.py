"""Marks of what a project may have left on a physical connection: in its session, or on the object.

A session is reset before another chain has the connection (PostgreSQL: DISCARD). No reset undoes a
change of psycopg's object (adapters, a row factory, a notice handler), so such a connection is
closed. Guarded by `tests/db/test_sessions.py`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import psycopg

from django_aio.conf import is_below
from django_aio.db.callers import by_project, module_at, tell_chain

if TYPE_CHECKING:
    from collections.abc import Callable

# Modules that read the adapters of a connection and register nothing.
READERS = (
    "django",
    "psycopg._connection_base",
    "psycopg._cursor_base",
    "psycopg._py_transformer",
    "psycopg.connection",
    "psycopg.sql",
)
# The module that makes a cursor.
CURSORS = "psycopg._cursor_base"


@functools.cache
def _only_reads(module: str) -> bool:
    return is_below(module, READERS)


# Not `Connection[Any]`: a tracer may have replaced it with a class that is not generic.
class MarkedConnection(psycopg.Connection):
    """A psycopg connection that notes what code other than Django's has done with it.

    Used by one chain at a time.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.touched = False  # whether a chain may have left something in the session
        self._shown = False  # whether a project has had a part of it that can be altered
        self._asked = False  # whether `cursor()` is making a cursor, and has judged its caller
        self._made: tuple[Any, ...] = ()  # its `_shape()` when it was set up

    @property
    def is_altered(self) -> bool:
        """Whether a project may have changed the connection object itself, which no reset undoes.

        This covers row factories, adapters, notice handlers and the modes of transactions.
        """
        return self._shown or self._shape() != self._made

    def _shape(self) -> tuple[Any, ...]:
        return (
            len(vars(self)),  # a project's own attributes
            self.row_factory,
            self.cursor_factory,
            self.server_cursor_factory,
            self.isolation_level,
            self.read_only,
            self.deferrable,
        )

    def begin(self) -> None:
        """Note that the connection is set up: a chain makes every change from here on."""
        self.touched = self._shown = False
        self._made = self._shape()

    def touch(self) -> None:
        """Note that a project's code uses the connection past Django, and may leave state."""
        self.touched = True
        tell_chain(self)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Open a cursor, as psycopg does. `execute()` opens one by this method too."""
        if by_project():
            self.touch()
        self._asked = True
        try:
            return super().cursor(*args, **kwargs)
        finally:
            self._asked = False

    @property
    def adapters(self) -> Any:
        """The adapters of values. A project that reads this may register one."""
        caller = module_at(1) or ""
        if not _only_reads(caller):
            self._shown = True
        elif caller == CURSORS and not self._asked and by_project():
            self.touch()  # the project makes a cursor by psycopg's class
        return super().adapters

    def add_notice_handler(self, callback: Callable[[psycopg.errors.Diagnostic], None]) -> None:
        """Have a function called for each notice of the server, until the chain ends."""
        self._shown = True
        super().add_notice_handler(callback)

    def add_notify_handler(self, callback: Callable[[psycopg.Notify], None]) -> None:
        """Have a function called for each notification, until the chain ends."""
        self._shown = True
        super().add_notify_handler(callback)
