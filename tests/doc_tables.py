"""Reads tables of two figures from the documentation, for the tests that measure them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def documented(page, label):
    """The rows of one table: {name: (figure, figure)}. A dash is None."""
    text = (DOCS / page).read_text().partition(f".. _{label}:\n")[2]
    table = re.split(r"\n(?=\S)", text.partition(".. list-table::\n")[2])[0]
    rows = re.findall(r"^   \* - (.+(?:\n       .+)*)\n     - (\S+)\n     - (\S+)$", table, re.M)
    figures = {"-": None, **{str(figure): figure for figure in range(10)}}
    return {re.sub(r"\s+", " ", name): (figures[a], figures[b]) for name, a, b in rows}


def examples(page):
    """The Python code blocks of a page."""
    text = (DOCS / page).read_text()
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text, re.M)
    return [re.sub(r"^    ", "", block, flags=re.M) for block in blocks]
