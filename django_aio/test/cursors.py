"""A cursor of SQLite that reads all of its rows with its statement.

While a statement has rows left, no one else on the connection can open a savepoint, and reading
them later would be outside of any turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_aio.db.backends.thread_cursor import ThreadCursor


def at_once(method: Callable[..., Any], *args: Any) -> Any:
    """Call the driver: other code takes the turn."""
    return method(*args)


class InTurn:
    """Makes the calls of the driver by `turn(method, *args)`."""

    def __init__(self, turn: Callable[..., Any]) -> None:
        self.call = turn

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Call `func` now: a cursor that has read all its rows does not block."""
        func()


class WholeCursor(ThreadCursor):
    """A cursor that makes each call of the driver's cursor by `turn(method, *args)`.

    Used by the chain, or the joined task or thread, that opened it.
    """

    __slots__ = ()

    def __init__(self, cursor: Any, turn: Callable[..., Any] = at_once) -> None:
        super().__init__(cursor, InTurn(turn))

    def _execute(self, method: str, *args: Any) -> list[Any]:
        rows = super()._execute(method, *args)
        return rows + list(self._cursor.fetchall())

    def _take(self, rows: list[Any]) -> None:
        super()._take(rows)
        self._exhausted = True
