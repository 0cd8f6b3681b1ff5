"""When the first byte of a page comes whose queries are slow: rendered whole, and streamed.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --ms 300 --rounds 20 --max-first-byte 30

One uvicorn worker serves a page with three queries that take a third of the time each, on
PostgreSQL. It is asked for by one client, request by request, over a connection that is kept open.
The table shows the times from the request to the first and to the last byte of the body.

    asgi            Django as it is
    aio             with the series, the same view
    aio, streamed   with the series, `astream()` in the place of `TemplateResponse`

Exit status: 0; 1 if a page failed, or if the median of the first byte of the streamed page is later
than `--max-first-byte` milliseconds.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from contenders import CONTENDERS, serve
from databases import prepared
from report import markdown, spread
from run import positive

SECTIONS = 3
WARM_UP = 3
STREAMED = "aio, streamed"
# The name of a row, its contender, its page.
ROWS = [
    ("asgi", "asgi", "/slow"),
    ("aio", "aio", "/slow"),
    (STREAMED, "aio", "/slow/streamed"),
]


class StreamingError(RuntimeError):
    """The page answered something else than it should."""


class Times(NamedTuple):
    """From the request to the first and the last byte of the body, in milliseconds."""

    first: float
    last: float


def ask(connection: http.client.HTTPConnection, path: str) -> Times:
    """One request. Raises StreamingError unless the whole page comes."""
    start = perf_counter()
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read(1)
    first = perf_counter() - start
    body += response.read()
    last = perf_counter() - start
    if response.status != 200 or body.count(b"<li>") != SECTIONS or b"</html>" not in body:
        raise StreamingError(f"{path} answered {response.status}:\n{body[:2000].decode()}")
    return Times(first * 1e3, last * 1e3)


def measure(options: argparse.Namespace) -> dict[str, list[Times]]:
    """The times of each row; each contender has a server of its own."""
    found: dict[str, list[Times]] = {}
    with prepared("postgresql", keep=False) as database:
        for name, contender, page in ROWS:
            with serve(CONTENDERS[contender], database, threads=1) as base:
                connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=60)
                path = f"{page}?ms={options.ms // SECTIONS}"
                times = [ask(connection, path) for _ in range(WARM_UP + options.rounds)]
                connection.close()
            found[name] = times[WARM_UP:]
            print(f"{name}: first byte {middle(found[name]):.1f} ms", file=sys.stderr)
    return found


def middle(times: list[Times]) -> float:
    """The median of the first byte."""
    return statistics.median(each.first for each in times)


def table(found: dict[str, list[Times]]) -> str:
    """The Markdown table."""
    rows = [
        [
            name,
            spread([each.first for each in times], digits=1),
            spread([each.last for each in times], digits=1),
        ]
        for name, times in found.items()
    ]
    return markdown(["page", "first byte, ms (range)", "last byte, ms (range)"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--ms", type=positive, default=300, help="that the queries of the page take together")
    add("--rounds", type=positive, default=20, help="requests of each row")
    add("--max-first-byte", type=float, help="of the streamed page, in milliseconds")
    options = parser.parse_args(arguments)
    try:
        found = measure(options)
    except RuntimeError as error:  # the benchmarks' own are all of that kind
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(found))
    first = middle(found[STREAMED])
    if options.max_first_byte is not None and first > options.max_first_byte:
        print(f"error: the first byte came after {first:.1f} ms", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
