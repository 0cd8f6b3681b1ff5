#!/usr/bin/env python
"""Run other packages' own test suites, and say what fails with the series and not in stock Django.

    tests/compat/suites.py                      every suite of suites.toml, native, on SQLite
    tests/compat/suites.py asgiref              one of them
        --mode stock|plain|native               without us; series applied; all of it on one loop
               all                              plain, then native
        --db sqlite|postgresql|all
        --checkout FOLDER                       the tests of this checkout, not of the sdist

The tests are those of the installed version, from its sdist. What requirements-suites.txt names
must be installed. A test has failed if it passes in stock mode, on this machine and this database,
and does anything else here. Exit status 1 if there is one that suites.toml does not exclude.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest
from compat.suite_table import CACHE, MODES, Suite, exclusions, suites
from upstream.outcomes import BAD
from upstream.plan import ENVIRONMENT, TESTS
from upstream.summary import Run, print_failures

DATABASES = ("sqlite", "postgresql")
# A process that a test ends, or that hangs, is followed by one that runs the rest.
MOST_PROCESSES = 12


def main() -> int:
    """Run what the options ask for. Returns the exit status."""
    options = _options()
    table = suites()
    if unknown := [name for name in options.packages if name not in table]:
        sys.exit(f"Not in suites.toml: {', '.join(unknown)}")
    names = options.packages or list(table)
    if options.checkout and len(names) != 1:
        sys.exit("--checkout goes with one suite.")
    status = 0
    for suite in (table[name] for name in names):
        if suite.no_tests and not options.checkout:
            print(f"{suite.package} {suite.version}: left out: {suite.no_tests}")
            continue
        for database in DATABASES if options.db == "all" else (options.db,):
            for mode in MODES if options.mode == "all" else (options.mode,):
                status = _report(suite, mode, database, options.checkout) or status
            if not suite.databases:
                break
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", nargs="*")
    parser.add_argument("--mode", choices=("stock", *MODES, "all"), default="native")
    parser.add_argument("--db", choices=(*DATABASES, "all"), default="sqlite")
    parser.add_argument("--checkout", type=Path)
    return parser.parse_args()


def _report(suite: Suite, mode: str, database: str, checkout: Path | None) -> int:
    """Run one suite, and print its line and its failures. Returns the exit status."""
    if reason := suite.why_not(database):
        print(f"{suite.package}: {reason}")
        return 0
    database = database if suite.databases else ""
    source = checkout.resolve() if checkout else suite.source()
    stock = _run(suite, "stock", database, source)
    run = stock if mode == "stock" else _run(suite, mode, database, source)
    different = _differences(run, stock)
    excluded = exclusions(suite.package, mode)
    bad = [test for test in different if test not in excluded]
    print_failures(bad, run)
    for test in excluded:
        if test not in different:
            print(f"Excluded, but no different from stock: {test}")
    counts = run.counts()
    parts = [
        f"{counts['run']} run",
        f"{counts['passed']} passed",
        f"{len(bad)} failed here only",
        f"{len(set(run.failures()) - set(different))} failed in stock too",
        f"{counts['skipped']} skipped",
    ]
    if hidden := len(different) - len(bad):
        parts.append(f"{hidden} excluded")
    if mode == "native":
        parts.append(f"{run.waits['cooperative']} cooperative waits")
    where = f"{suite.package} {suite.version}, {mode}, {database or 'no database'}"
    print(f"{where}: {', '.join(parts)}", flush=True)
    for test in bad:
        print(f"  {test}")
    return 1 if bad else 0


def _differences(run: Run, stock: Run) -> list[str]:
    """The tests that do worse than in stock mode, and blocking waits outside of tests.

    One that was skipped or not run at all has done worse than one that passed: `run` gets an
    outcome that says so.
    """
    failed_there = set(stock.failures())
    found = [test for test in run.failures() if test not in failed_there]
    for test, outcome in stock.outcomes.items():
        here = run.outcomes.get(test, "not run")
        if outcome in BAD or here in BAD or here == outcome or outcome == "skipped":
            continue
        if here in ("skipped", "not run"):
            run.outcomes[test] = "failed"
            run.details[test] = f"{here} here, {outcome} in stock\n{run.details.get(test, '')}"
            found.append(test)
    for number, fault in enumerate(run.faults):
        name = f"outside of tests, {number}"
        run.outcomes[name], run.details[name] = "failed", fault
        found.append(name)
    return found


@functools.cache
def _run(suite: Suite, mode: str, database: str, source: Path) -> Run:
    """Run a suite to its end, by as many processes as it takes."""
    run = Run()
    folder = CACHE / f"results-{os.getpid()}"  # several runs may be going on
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(MOST_PROCESSES):
        name = f"{suite.package}-{mode}-{database or 'none'}-{number}"
        results = folder / f"{name}.jsonl"
        results.unlink(missing_ok=True)
        job = {
            "mode": mode,
            "database": database,
            "source": str(source),
            "tests": suite.tests,
            "settings": suite.settings,
            "configure": suite.configure,
            "cooperative": suite.listed(source),
            "options": suite.options,
            "done": list(run.outcomes),
            "results": str(results),
        }
        environment = {**os.environ, **ENVIRONMENT, "AIO_SUITE": json.dumps(job)}
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        with results.with_suffix(".log").open("w") as log:
            command = [sys.executable, "-m", "compat.suite_worker"]
            subprocess.run(command, cwd=TESTS, env=environment, stdout=log, stderr=log)
        before = len(run.outcomes)
        run.read(results)
        if _ended(results) or len(run.outcomes) == before:
            break
    return run


def _ended(results: Path) -> bool:
    """Whether pytest came to its end. Raises SystemExit where it could not run the tests at all."""
    lines = results.read_text().splitlines() if results.exists() else []
    statuses = [entry["status"] for entry in map(json.loads, lines) if "ended" in entry]
    if statuses and statuses[0] not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit(f"pytest ended with status {statuses[0]}; see {results.with_suffix('.log')}.")
    return bool(statuses)


if __name__ == "__main__":
    sys.exit(main())
