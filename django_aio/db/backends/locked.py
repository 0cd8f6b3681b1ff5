"""The connection of the SQLite driver: Python's, which knows who is inside it, and who was."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import weakref
from typing import Any


class LockedConnection(sqlite3.Connection):
    """A `sqlite3.Connection` that knows who is inside it, and its cursors.

    SQLite keeps a connection, and its locks, open for as long as one of them has rows to come.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inside = threading.Lock()
        self.touched = False  # whether a project has used it past Django: see sessions.py
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Open a cursor, which will be closed with the connection."""
        cursor = super().cursor(*args, **kwargs)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        """Close the cursors and the connection; what is open of a transaction is rolled back.

        Closing twice does nothing.
        """
        cursors, self._cursors = self._cursors, weakref.WeakSet()
        for cursor in list(cursors):
            with contextlib.suppress(sqlite3.Error):
                cursor.close()
        super().close()
