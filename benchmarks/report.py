"""Numbers in, Markdown out: what the three benchmarks share.

A single figure of a noisy machine says little, so a figure here is a median, and a ratio is shown
with the range in which its repetitions lay.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def markdown(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1
) -> str:
    """A Markdown table, padded so that a terminal shows it as one too.

    The first `text_columns` stand at the left, figures at the right.
    """
    lines = [""] * (len(rows) + 2)
    for number, column in enumerate(zip(headings, *rows, strict=True)):
        width = max(map(len, column))
        left = number < text_columns
        rule = "-" * width if left else "-" * (width - 1) + ":"
        cells = [column[0], rule, *column[1:]]
        padded = [cell.ljust(width) if left else cell.rjust(width) for cell in cells]
        lines = [f"{line}| {cell} " for line, cell in zip(lines, padded, strict=True)]
    return "\n".join(f"{line}|" for line in lines)


def ratios(figures: Sequence[float], base: Sequence[float]) -> list[float]:
    """Each figure over the figure of the base that was measured right next to it.

    Pairs of neighbours, not a quotient of two medians: what else the machine was doing then
    slowed both of a pair down.
    """
    return [figure / other for figure, other in zip(figures, base, strict=True)]


def spread(figures: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """The median with the smallest and the largest figure: `7.10x (6.80-7.30)`."""
    middle, low, high = statistics.median(figures), min(figures), max(figures)
    return f"{middle:,.{digits}f}{unit} ({low:,.{digits}f}-{high:,.{digits}f})"
