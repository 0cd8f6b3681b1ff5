"""When the queries of one request ran, drawn as a waterfall.

Each query of the page goes through `Waterfall.record()`. It takes three times from the clock: when
the query was asked for, when its statement was with the database, and when its answer was ready.
Under django-aio every task of a gather has a connection of its own, so the wrapper that sees the
statements is installed in each task, on the connection of that task.

What it does not do: see queries that did not go through `record()`, such as the session's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection

T = TypeVar("T")

NARROWEST = 0.6  # percent: a shorter bar could not be seen
MAX_TICKS = 5  # more would overlap on a telephone


@dataclass
class Entry:
    """One awaited query; times in seconds of `perf_counter()`."""

    label: str
    asked: float
    done: float = 0.0
    statements: list[tuple[str, float, float]] = field(default_factory=list)


@dataclass
class Bar:
    """A rectangle of the picture; `x` and `width` in percent of it."""

    x: float
    width: float


@dataclass
class Row:
    """An entry as the template draws it."""

    label: str
    start: str
    duration: str
    in_database: str
    sql: str
    whole: Bar
    statements: list[Bar]


class Waterfall:
    """The recorded queries of one request. Used by the tasks of one loop."""

    def __init__(self, latency: int = 0) -> None:
        """`latency`: milliseconds that the server sleeps before each query (PostgreSQL only)."""
        self.latency = latency
        self.entries: list[Entry] = []

    async def record(self, label: str, query: Callable[[], Awaitable[T]]) -> T:
        """Await `query()` and remember when its statements ran."""
        entry = Entry(label, perf_counter())
        self.entries.append(entry)
        token = _current.set((entry, self.latency))
        try:
            if settings.STOCK:
                await sync_to_async(_watch_thread)()
            with connection.execute_wrapper(_measure):
                return await query()
        finally:
            entry.done = perf_counter()
            _current.reset(token)

    @property
    def total(self) -> float:
        """Seconds from the first question to the last answer."""
        return max(entry.done for entry in self.entries) - self._origin

    @property
    def summed(self) -> float:
        """Seconds that all statements took, added up: what one after another would cost."""
        return sum(end - start for entry in self.entries for _, start, end in entry.statements)

    @property
    def _origin(self) -> float:
        return min(entry.asked for entry in self.entries)

    def rows(self) -> list[Row]:
        """The entries in the order in which they were asked for, ready to be drawn."""
        return [self._row(entry) for entry in self.entries]

    def ticks(self) -> list[tuple[float, str]]:
        """Marks of the time axis: position in percent, text."""
        step = round_step(self.total / MAX_TICKS)
        in_ms = self.total >= 1e-3
        marks = []
        for number in range(MAX_TICKS + 1):
            time = number * step
            if time > self.total:
                break
            text = f"{time * 1e3:g} ms" if in_ms else f"{time * 1e6:g} µs"
            marks.append((100 * time / self.total, text if number else "0"))
        return marks

    def _row(self, entry: Entry) -> Row:
        return Row(
            label=entry.label,
            start=duration(entry.asked - self._origin),
            duration=duration(entry.done - entry.asked),
            in_database=duration(sum(end - start for _, start, end in entry.statements)),
            sql=";\n".join(sql for sql, _, _ in entry.statements),
            whole=self._bar(entry.asked, entry.done),
            statements=[self._bar(start, end) for _, start, end in entry.statements],
        )

    def _bar(self, start: float, end: float) -> Bar:
        width = max(100 * (end - start) / self.total, NARROWEST)
        return Bar(min(100 * (start - self._origin) / self.total, 100 - width), width)


# The entry that the running code works for. A context variable rather than an argument of the
# wrapper: on stock Django all tasks share one connection, and with it the wrapper.
_current: ContextVar[tuple[Entry, int] | None] = ContextVar("waterfall_entry", default=None)


def _measure(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Wrapper for `connection.execute_wrapper()`: note when a statement was with the database."""
    current = _current.get()
    if current is None:
        return execute(sql, params, many, context)
    entry, latency = current
    start = perf_counter()
    try:
        if latency and connection.vendor == "postgresql":
            execute("SELECT pg_sleep(%s)", [latency / 1000], False, context)
        return execute(sql, params, many, context)
    finally:
        entry.statements.append((sql, start, perf_counter()))


def _watch_thread() -> None:
    """Stock Django only: install the wrapper in the one thread where all queries will run.

    It stays there, and does nothing for code that no `record()` has called.
    """
    if _measure not in connection.execute_wrappers:
        connection.execute_wrappers.append(_measure)


def duration(seconds: float) -> str:
    """Three digits or so, in the unit that suits."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    milliseconds = seconds * 1e3
    return f"{milliseconds:.{2 if milliseconds < 10 else 1 if milliseconds < 100 else 0}f} ms"


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, 50 ... µs that is not below `least` seconds."""
    step = 1e-6
    while True:
        for factor in (1, 2, 5):
            if factor * step >= least:
                return factor * step
        step *= 10
