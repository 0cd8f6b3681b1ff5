"""A progress bar on stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self, TextIO

WIDTH = 30


class Progress:
    """Draws a bar on a terminal; elsewhere, in a log, it prints one line at the end.

        with Progress("Loading", 500) as progress:
            progress.advance(100)

    Used by one thread. An exception leaves the bar where it was, on a line of its own.
    """

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self.stream = stream or sys.stderr

    def __enter__(self) -> Self:
        self._draw()
        return self

    def advance(self, amount: int) -> None:
        self.done += amount
        self._draw()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.stream.isatty():
            self.stream.write("\n")
        elif error is None:
            self.stream.write(f"{self.label}: {self.done:,}\n")

    def _draw(self) -> None:
        if not self.stream.isatty():
            return
        part = self.done / self.total if self.total else 1.0
        bar = ("█" * round(part * WIDTH)).ljust(WIDTH, "·")
        self.stream.write(f"\r{self.label} {bar} {part:4.0%}  {self.done:,} of {self.total:,}")
        self.stream.flush()
