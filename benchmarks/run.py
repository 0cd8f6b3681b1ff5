"""Django as it is, and Django with the series applied, side by side in one run.

    python benchmarks/run.py
    python benchmarks/run.py --pages json,row --rounds 5 --check-ratios json=7,row=4

Makes a database, starts each contender's server, loads its pages with wrk, and prints a Markdown
table. Contenders take turns (A B A B ...), page by page, because a machine that others use too is
never the same for long: only the ratio of two neighbouring measurements means anything.

Exit status: 0; 1 if a page failed or a ratio is lower than `--check-ratios` demands; 2 for a
mistake in the options. Whatever happens, the servers are stopped and the database is dropped.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import signal
import statistics
import sys
from collections.abc import Callable, Collection, Sequence

from contenders import CONTENDERS, ServerError, serve
from databases import DatabaseError, prepared
from pages import PAGES, PageError, check
from report import markdown, ratios, spread
from wrk import LoadError, Sample, load, require_wrk

BASE = "asgi"
OURS = "aio"
HEADINGS = ["page", "contender", "requests/s", "p50 ms", "p99 ms", "ratio (range)"]

# The samples of each page and contender, in the order of the rounds; None where it failed.
Samples = dict[tuple[str, str], list[Sample | None]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = parse(arguments)
    # Turn a polite kill into an exception, so that everything is put away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_wrk()
        with prepared(options.database, keep=options.keep) as database:
            samples = measure(options, database)
    except (DatabaseError, LoadError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(environment(options), table(options, samples), sep="\n\n")
    failed = any(None in taken for taken in samples.values())
    return int(too_low(options.check_ratios, samples) or failed)


def measure(options: argparse.Namespace, database: dict[str, str]) -> Samples:
    """Every page, in every round, of every contender: the innermost loop is the one compared."""
    samples: Samples = {}
    for page in options.pages:
        for number in range(1, options.rounds + 1):
            for name in options.contenders:
                sample = measure_one(options, database, page, name)
                samples.setdefault((page, name), []).append(sample)
                rate = f"{sample.requests_per_second:,.0f}/s" if sample else "failed"
                print(f"/{page}, round {number}, {name}: {rate}", file=sys.stderr)
    return samples


def measure_one(
    options: argparse.Namespace, database: dict[str, str], page: str, name: str
) -> Sample | None:
    """One page of one contender, on a server of its own; None, with a message, if it failed.

    A failure does not end the run: what the others did is worth knowing.
    """
    try:
        with serve(CONTENDERS[name], database, threads=options.connections) as base:
            check(base, page)
            url = f"{base}/{page}"
            load(url, connections=options.connections, seconds=options.warmup)
            return load(url, connections=options.connections, seconds=options.seconds)
    except (LoadError, PageError, ServerError) as error:
        print(f"error: {name}, /{page}: {error}", file=sys.stderr)
        return None


def paired(samples: Samples, page: str, name: str, base: str) -> list[float]:
    """How many times as fast as the base a contender was, for each round that both finished."""
    pairs = [
        (mine.requests_per_second, theirs.requests_per_second)
        for mine, theirs in zip(samples[page, name], samples[page, base], strict=True)
        if mine and theirs
    ]
    return ratios([mine for mine, _ in pairs], [theirs for _, theirs in pairs])


def table(options: argparse.Namespace, samples: Samples) -> str:
    """The Markdown table. The base is Django as it is, or else the first contender named."""
    base = BASE if BASE in options.contenders else options.contenders[0]
    rows = []
    for page, name in samples:
        taken = [sample for sample in samples[page, name] if sample]
        found = paired(samples, page, name, base)
        ratio = "1" if name == base else spread(found, "x") if found else "-"
        cells = [f"{statistics.median(column):,.{digits}f}" for column, digits in columns(taken)]
        rows.append([page, CONTENDERS[name].title, *(cells or ["failed", "-", "-"]), ratio])
    return markdown(HEADINGS, rows, text_columns=2)


def columns(taken: Sequence[Sample]) -> list[tuple[list[float], int]]:
    """The samples by column, each with the digits to show; nothing if there is no sample."""
    if not taken:
        return []
    return [
        ([sample.requests_per_second for sample in taken], 0),
        ([sample.p50_ms for sample in taken], 1),
        ([sample.p99_ms for sample in taken], 1),
    ]


def too_low(floors: dict[str, float], samples: Samples) -> bool:
    """Compare the median ratios with the floors, and say which are lower."""
    low = False
    for page, floor in floors.items():
        found = paired(samples, page, OURS, BASE)
        ratio = statistics.median(found) if found else 0.0
        if ratio < floor:
            low = True
            print(f"error: /{page} is {ratio:.2f}x, and {floor:g}x is asked for", file=sys.stderr)
    return low


def versions() -> str:
    """The versions without which figures mean nothing."""
    found = [f"Python {platform.python_version()}"]
    for package in ("django", "psycopg", "asgiref", "greenlet", "uvicorn", "uvloop"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def environment(options: argparse.Namespace) -> str:
    """The versions and settings of a run, in one line."""
    setting = (
        f"{options.database}, {os.cpu_count()} cores, one worker, {options.connections} "
        f"connections, median of {options.rounds} rounds of {options.seconds} s"
    )
    return f"{versions()}; {setting}."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the contenders that cannot run here left out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--pages", type=names_among(PAGES), default=list(PAGES), help=", ".join(PAGES))
    add("--contenders", type=names_among(CONTENDERS), default=[BASE, OURS],
        help=f"{', '.join(CONTENDERS)} (default: {BASE},{OURS})")  # fmt: skip
    add("--rounds", type=positive, default=3)
    add("--seconds", type=positive, default=5, help="of each measurement")
    add("--warmup", type=positive, default=2, help="seconds before each measurement")
    add("--connections", type=positive, default=32, help="that wrk keeps busy")
    add("--database", choices=["postgresql", "sqlite"], default="postgresql")
    add("--keep", action="store_true", help="do not drop the database")
    add("--check-ratios", type=floors, default={}, metavar="json=7,row=4",
        help=f"exit with 1 if {OURS} is less than this many times as fast as {BASE}")  # fmt: skip
    options = parser.parse_args(arguments)
    leave_out_missing(options.contenders)
    if set(options.check_ratios) - set(options.pages):
        parser.error("--check-ratios names a page that is not measured")
    if options.check_ratios and not {BASE, OURS} <= set(options.contenders):
        parser.error(f"--check-ratios compares {OURS} with {BASE}: both must be contenders")
    return options


def leave_out_missing(names: list[str]) -> None:
    """Remove the contenders that cannot run here, with a line about each."""
    for name in list(names):
        if reason := CONTENDERS[name].missing():
            print(f"{name} is skipped: {reason}.", file=sys.stderr)
            names.remove(name)


def names_among(known: Collection[str]) -> Callable[[str], list[str]]:
    """A parser of options like `json,row`."""

    def names(text: str) -> list[str]:
        found = list(dict.fromkeys(text.split(",")))
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return found

    return names


def floors(text: str) -> dict[str, float]:
    """The parser of `json=7,row=4`."""
    pairs = (item.partition("=") for item in text.split(","))
    return {page: float(ratio) for page, _, ratio in pairs}


def positive(text: str) -> int:
    """The parser of a count."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
