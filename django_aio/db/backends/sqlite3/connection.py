"""Python's SQLite connection, with a lock for whoever is inside it and a mark of project use."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import threading
import weakref
from collections.abc import Callable
from typing import Any

from django_aio.db.callers import by_project, tell_chain


class LockedConnection(sqlite3.Connection):
    """A `sqlite3.Connection` with a set of its cursors and a lock for whoever is inside it.

    SQLite keeps a connection, and its locks, open for as long as a cursor has rows to come.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inside = threading.Lock()
        self.touched = False  # whether a project has used the connection past Django: sessions.py
        self._begun = False
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def begin(self) -> None:
        """A chain begins: notice from here on what a project does.

        Django registers some forty functions on a new connection, in a thread, where it would take
        a walk up the whole stack for each to see that it is Django.
        """
        self._begun, self.touched = True, False

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Open a cursor, which will be closed with the connection."""
        if self._begun and by_project():
            self.touch()
        cursor = super().cursor(*args, **kwargs)
        self._cursors.add(cursor)
        return cursor

    def touch(self) -> None:
        """Note that a project's code uses the connection past Django."""
        self.touched = True
        tell_chain(self)

    def close(self) -> None:
        """Close the cursors and the connection, which rolls an open transaction back.

        Does nothing the second time.
        """
        cursors, self._cursors = self._cursors, weakref.WeakSet()
        for cursor in list(cursors):
            with contextlib.suppress(sqlite3.Error):
                cursor.close()
        super().close()


def _altering(name: str) -> Callable[..., Any]:
    """Wrap a method that may leave something in the session, or on the connection."""
    upstream = getattr(sqlite3.Connection, name)

    @functools.wraps(upstream)
    def method(self: LockedConnection, *args: Any, **kwargs: Any) -> Any:
        if self._begun and by_project():
            self.touch()
        return upstream(self, *args, **kwargs)

    return method


for _name in (
    "create_aggregate",
    "create_collation",
    "create_function",
    "create_window_function",
    "execute",
    "executemany",
    "executescript",
    "set_authorizer",
    "set_progress_handler",
    "set_trace_callback",
):
    setattr(LockedConnection, _name, _altering(_name))
