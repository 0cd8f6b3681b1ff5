"""What each page must answer, checked once before it is measured.

A fast answer counts only if it is the right one: a contender that skipped the escaping, a query
or the middleware would win otherwise.
"""

from __future__ import annotations

import html
import json
import re
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

from contenders import SITE

sys.path.insert(0, str(SITE))
from bench.data import ADDED_MESSAGE, MESSAGES, PARALLEL, QUERIES, WORLDS

CELLS = re.compile(r"<tr><td>(\d+)</td><td>(.*?)</td></tr>")

# What the first and the last of the default middleware leave behind.
MIDDLEWARE_HEADERS = ("X-Content-Type-Options", "X-Frame-Options")


class PageError(RuntimeError):
    """A page answered something else than it should."""


def check(base: str, page: str) -> None:
    """Fetch the page once; raise PageError unless it is complete and came by the middleware."""
    try:
        # Raises for error statuses; there is nothing to be redirected to.
        with urllib.request.urlopen(f"{base}/{page}", timeout=30) as response:
            headers, body = response.headers, response.read().decode()
    except OSError as error:
        raise PageError(f"no answer: {error}") from error
    if missing := [header for header in MIDDLEWARE_HEADERS if header not in headers]:
        raise PageError(f"the header {missing[0]} is missing: did the middleware run?")
    if not PAGES[page](body):
        raise PageError(f"the body is not what it should be:\n{body[:2000]}")


def _is_hello(body: str) -> bool:
    return bool(json.loads(body) == {"message": "Hello, World!"})


def _is_world(world: Any) -> bool:
    return set(world) == {"id", "number"} and all(1 <= n <= WORLDS for n in world.values())


def _are_worlds(count: int) -> Callable[[str], bool]:
    def are_worlds(body: str) -> bool:
        worlds = json.loads(body)
        return len(worlds) == count and all(_is_world(world) for world in worlds)

    return are_worlds


def _are_fortunes(body: str) -> bool:
    """All rows and the added one, sorted by the message, escaped, nothing lost on the way."""
    fortunes = dict(enumerate(MESSAGES, start=1)) | {0: ADDED_MESSAGE}
    expected = sorted(fortunes.items(), key=lambda fortune: fortune[1])
    rows = [(int(key), html.unescape(message)) for key, message in CELLS.findall(body)]
    return rows == expected and "<script>" not in body


# The pages in the order of the table, each with what recognises its body.
PAGES: dict[str, Callable[[str], bool]] = {
    "json": _is_hello,
    "row": lambda body: _is_world(json.loads(body)),
    "queries": _are_worlds(QUERIES),
    "fortunes": _are_fortunes,
    "parallel": _are_worlds(PARALLEL),
}
