"""A server-side cursor of a chain: its fetches take turns, and its end waits for nobody.

Django closes such a cursor in the `finally` of a generator. If the iterator is left early, that
runs in a destructor, in whichever task, greenlet or thread has the last reference; there a wait
would lose a cancellation, or stop a loop. So `close()` only notes the cursor. The next statement on
the same connection, or the return of the connection, closes it on the server. Guarded by
`tests/db/test_iterators.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
from django.db.utils import InterfaceError

from django_aio.db.backends.driver import ROWS_GONE
from django_aio.db.statements import own_block, turn

if TYPE_CHECKING:
    from django_aio.db.types import Managed


class Stream:
    """The `CursorWrapper.cursor` of a server-side cursor.

    Belongs to the connection and the block that it was opened in; never looks them up again (R7).
    Used by the chain that opened it; `close()` by any thread.
    """

    def __init__(self, cursor: psycopg.ServerCursor[Any], wrapper: Managed) -> None:
        self._cursor = cursor
        self._wrapper = wrapper
        self._connection = wrapper.connection
        self._block = own_block(wrapper)
        self._connection.open_streams.add(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def _fetch(self, method: Callable[..., Any], *args: Any) -> Any:
        if self not in self._connection.open_streams:
            _refuse()
        with turn(self._wrapper):
            return method(*args)

    def fetchone(self) -> Any:
        """The next row, or None."""
        return self._fetch(self._cursor.fetchone)

    def fetchmany(self, size: int = 0) -> Any:
        """The next `size` rows."""
        return self._fetch(self._cursor.fetchmany, size)

    def fetchall(self) -> Any:
        """All rows that are left."""
        return self._fetch(self._cursor.fetchall)

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def close(self) -> None:
        """Note that the cursor has ended. Does nothing if it has been noted, or was lost."""
        connection = self._connection
        if self not in connection.open_streams:
            return
        connection.open_streams.discard(self)
        connection.forget(self)

    @property
    def withhold(self) -> bool:
        """Whether the cursor outlives a transaction on the server."""
        return bool(self._cursor.withhold)

    def end(self, *, tell: bool) -> None:
        """Close the cursor; on the server too if `tell`, which may wait.

        A cursor that was declared in a block that was rolled back is gone on the server, where
        closing it would be an error.
        """
        if tell and not (self._block is not None and self._block.is_undone):
            self._cursor.close()
        else:
            psycopg.Cursor.close(self._cursor)

    def lose(self) -> None:
        """Make every later fetch an error, because the chain has ended."""
        self.close()


def _refuse() -> NoReturn:
    raise InterfaceError(ROWS_GONE)
