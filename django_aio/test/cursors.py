"""A cursor of SQLite that has read all of its rows when its statement is over.

A statement with rows to come keeps everybody else on the connection from opening a savepoint, and
reading them would not be in anybody's turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_aio.db.backends.thread_cursor import HopCursor


def at_once(method: Callable[..., Any], *args: Any) -> Any:
    """Call the driver where the turn is taken elsewhere."""
    return method(*args)


class InTurn:
    """Calls of the driver that are made by `turn(method, *args)`."""

    def __init__(self, turn: Callable[..., Any]) -> None:
        self.call = turn

    def soon(self, func: Callable[[], object], *, quick: bool) -> None:
        """Call it: a cursor that has read all its rows keeps nobody waiting."""
        func()


class WholeCursor(HopCursor):
    """Each call of the driver's cursor is made by `turn(method, *args)`.

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
