"""What a project may have left on a physical connection: in its session, or on the object.

A session is reset before another chain has the connection (PostgreSQL: DISCARD). What was set on
psycopg's object (adapters, a factory of rows, a handler of notices) no reset undoes: such a
connection is closed.
"""

from __future__ import annotations

from typing import Any

import psycopg


# Not `Connection[Any]`: a tracer may have put a class in its place that is not generic.
class MarkedConnection(psycopg.Connection):
    """A psycopg connection that knows what Django has not done with it.

    Used by one chain at a time.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.touched = False  # whether a chain may have left something in the session
        self._shown = False  # whether a project has had a part of it that it could alter
        self._made: tuple[Any, ...] = ()  # what it was like when it was set up

    @property
    def is_altered(self) -> bool:
        """Whether a project may have changed the connection object itself, which no reset undoes.

        How it makes rows and adapts values, who hears its notices, how its transactions begin.
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
        """It is connected and set up: what is done from here on is a chain's."""
        self.touched = self._shown = False
        self._made = self._shape()
