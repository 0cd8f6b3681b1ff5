#!/usr/bin/env python
"""Run the sites of this folder on SQLite and PostgreSQL, and say which packages work.

    tests/compat/report.py               every package: versions and results, in lines
    tests/compat/report.py filter axes   those whose name has one of these words
    tests/compat/report.py --record      and write docs/compatibility.json and its page

Exit status 1 if a site fails, or cannot be run.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compat import page
from compat.table import Package, packages, version

# What it is called, the database, and whether there is a pool.
WAYS = {
    "SQLite": ("sqlite", ""),
    "PostgreSQL": ("postgresql", ""),
    "PostgreSQL, pool": ("postgresql", "1"),
}
AT_ONCE = 2


def main() -> int:
    """Run, print, and record if asked. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.record and options.words:
        sys.exit("--record is for all packages.")
    wanted = [package for package in packages() if _is_wanted(package, options.words)]
    figures, status = [], 0
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for package, results in zip(wanted, threads.map(_run, wanted), strict=True):
            name = package.names[0]
            said = ", ".join(f"{way} {outcome}" for way, outcome in results.items())
            print(f"{name} {version(name)}: {said}", flush=True)
            figures.append(page.figure(package, results))
            if {"failed", "not run"} & set(results.values()):
                status = 1
    if options.record:
        page.record(figures)
    return status


def _is_wanted(package: Package, words: list[str]) -> bool:
    return not words or any(word in name for word in words for name in package.names)


def _run(package: Package) -> dict[str, str]:
    """The outcome for each way: passed, failed, not run, or a dash where there is none."""
    results = {}
    for way, (database, pool) in WAYS.items():
        if database not in package.databases:
            results[way] = "-"
        elif reason := package.why_not(database):
            print(f"{package.names[0]}: {reason}")
            results[way] = "not run"
        elif (fault := package.fault(database, pool)) and package.lacks:
            results[way] = "in part"
        elif package.lacks:
            print(f"{package.script}, {way}: passes, take `lacks` out of packages.toml")
            results[way] = "failed"
        elif fault:
            print(f"{package.script}, {way}:\n{fault}", file=sys.stderr)
            results[way] = "failed"
        else:
            results[way] = "passed"
    return results


if __name__ == "__main__":
    sys.exit(main())
