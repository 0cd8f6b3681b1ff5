"""`tests/runtests.py --upstream`: run Django's own suite and say what fails here and not in stock.

    --mode stock|plain|native       Django without us; the series applied; all of it on one loop
           all                      plain, then native
    --db sqlite|postgresql
    --requirements                  first install what the suite's optional tests need
    --processes N                   2 by default; 1 with --failfast, --pdb, or few labels
    --selenium chrome               only the tests that need a browser: headless chromium
    --verify-sql                    compile every query afresh beside the SQL that was kept for it
    --record                        write the figures to docs/upstream.json and its page
    AIO_SPEEDUPS=off                (environment) leave out what makes Django do less work
    labels                          Django's, e.g. admin_views or queries.tests.Queries1Tests

A test that fails is run again in stock mode: what fails there too does not count. Exit status 1 if
anything is left that is not in `upstream_exclusions.toml`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import browsers
import django
from servers import answers

from upstream import exclusions, page, plan, sdist
from upstream.summary import Run, labels_of, print_failures

MODES = ("stock", "plain", "native")
SERVERS = ("memcached", "Redis")
# Fewer labels than this are not worth a second process.
FEW = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only this command has."""
    group = parser.add_argument_group("Django's own suite")
    group.add_argument("--upstream", action="store_true", help="run Django's own suite")
    group.add_argument("--mode", choices=(*MODES, "all"), default="native")
    group.add_argument("--processes", type=int, default=2, metavar="N")
    group.add_argument("--requirements", action="store_true", help="install what it needs first")
    group.add_argument(
        "--selenium", choices=("chrome",), help="run the tests that need a browser, and only those"
    )
    group.add_argument("--verify-sql", action="store_true", help="compare the SQL that is kept")
    group.add_argument("--record", action="store_true", help="write docs/upstream.json")


def main(options: argparse.Namespace) -> int:
    """Run what the options ask for. Returns the exit status."""
    if options.record and (options.labels or options.failfast):
        sys.exit("--record is for runs of the whole suite.")
    if options.record and options.selenium:
        sys.exit("--record does not go with --selenium.")
    if options.verify_sql and options.mode == "stock":
        sys.exit("--verify-sql is for plain and native mode: stock Django keeps no SQL.")
    if options.requirements:
        sdist.install_requirements()
    if options.selenium and (missing := browsers.why_no_browser()):
        sys.exit(f"--selenium: {missing}.")
    status = 0
    for mode in MODES[1:] if options.mode == "all" else (options.mode,):
        status = _run(argparse.Namespace(**{**vars(options), "mode": mode})) or status
    return status


def _run(options: argparse.Namespace) -> int:
    """Run the suite in one mode."""
    suite = sdist.suite()
    where = f"Django {django.__version__}, {options.db}, {options.mode}"
    print(f"{where}: Django's own test suite", flush=True)
    lanes, weights = _plan(options, suite)
    arguments = ["--failfast"] * options.failfast + ["--pdb"] * options.pdb
    seconds = plan.run(lanes, arguments, quiet=len(lanes) > 1)
    run = _read(lanes)
    if not options.labels and not options.selenium:
        weights.learn(run.seconds)
    bad = _compare(options, suite, run)
    _print(options, run, bad, seconds)
    if options.record:
        page.record(options.db, options.mode, run, bad, seconds, plan.why_no_gis(options.db))
    return 1 if bad or run.faults or run.differences else 0


def _plan(options: argparse.Namespace, suite: Path) -> tuple[list[list[plan.Job]], plan.Weights]:
    """The jobs of each process."""
    every = plan.modules(suite)
    weights = plan.Weights(suite, options.db)
    labels = [label for label in options.labels if not label.startswith(plan.GIS)]
    gis = [label for label in options.labels if label.startswith(plan.GIS)]
    if not options.labels:
        labels, gis = every, [plan.GIS]
    if gis and (why := plan.why_no_gis(options.db)):
        print(f"Without gis_tests: {why}.")
        gis = []
    one = options.failfast or options.pdb or len(labels) + len(gis) < FEW
    loads = [0.0] * (1 if one else options.processes)
    loads[0] = sum(weights[label] for label in gis)
    lanes = []
    for lane, part in enumerate(plan.divide(labels, weights, loads)):
        wanted = [(plan.GIS_ENGINES[options.db], gis if lane == 0 else [])]
        wanted.append((plan.ENGINES[options.db], part))
        jobs = [
            _job(options, options.mode, engine, lane, some, suite, every)
            for engine, some in wanted
            if some
        ]
        lanes.append(jobs)
    return [jobs for jobs in lanes if jobs], weights


def _job(
    options: argparse.Namespace,
    mode: str,
    engine: str,
    lane: int,
    labels: list[str],
    suite: Path,
    every: list[str],
) -> plan.Job:
    folder = sdist.CACHE / f"{django.__version__}-{mode}-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    results = folder / f"{engine.split('.')[-1]}-{lane}.jsonl"
    # The `asgi` suite asserts that receivers and views which nobody has listed run in threads.
    listed = [module for module in [*every, plan.GIS] if module != "asgi"]
    servers = [name for name in SERVERS if answers(name)]
    return plan.Job(
        mode,
        engine,
        lane,
        labels,
        servers,
        str(suite),
        str(results),
        listed,
        bool(options.selenium),
        bool(options.verify_sql) and mode != "stock",
    )


def _read(lanes: list[list[plan.Job]]) -> Run:
    run = Run()
    for job in (job for jobs in lanes for job in jobs):
        run.read(Path(job.results))
    return run


def _compare(options: argparse.Namespace, suite: Path, run: Run) -> list[str]:
    """The tests that fail here, not in stock, and are not excluded."""
    failed = run.failures()
    if options.mode == "stock" or not failed:
        return failed
    excluded = exclusions.load(options.mode)
    bad = [test for test in failed if test not in excluded]
    if not bad:
        return []
    print(f"{len(bad)} failed. The same tests in stock mode:", flush=True)
    jobs = []
    for number, engine in enumerate((plan.ENGINES, plan.GIS_ENGINES)):
        some = [test for test in labels_of(bad) if test.startswith(plan.GIS) == bool(number)]
        if some:
            jobs.append(_job(options, "stock", engine[options.db], 8 + number, some, suite, []))
    plan.run([jobs], [], quiet=True)
    stock = _read([jobs])
    return [test for test in bad if test not in stock.failures()]


def _print(options: argparse.Namespace, run: Run, bad: list[str], seconds: float) -> None:
    print_failures(bad, run)
    excluded = exclusions.load(options.mode)
    counts = run.counts()
    print(f"\n{counts['run']} tests run in {seconds:.0f} s, {counts['skipped']} skipped.")
    if options.mode == "native":
        print(
            f"{run.waits['cooperative']} cooperative waits, {len(run.faults)} faulty outside tests,"
        )
        print(
            f"{run.waits['threads']} in other threads: aiosqlite's, and those that tests started."
        )
        for fault in run.faults:
            print(fault)
    if options.verify_sql:
        print(f"{run.compared} queries compared, {len(run.differences)} differences.")
        for difference in run.differences:
            print(difference)
    needless = [test for test in excluded if run.outcomes.get(test) == "passed"]
    for test in needless:
        print(f"Excluded, but it passes: {test}")
    if options.mode != "stock":
        both = len(run.failures()) - len(bad) - sum(test in excluded for test in run.failures())
        print(f"{both} fail in stock as well, {len(excluded)} are excluded.")
    print(f"{len(bad)} fail here{'' if options.mode == 'stock' else ' and not in stock'}.")
    for test in bad:
        print(f"  {test}")


if __name__ == "__main__":
    sys.exit("Run tests/runtests.py --upstream.")
