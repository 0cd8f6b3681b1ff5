#!/usr/bin/env python
"""Run our tests by label, as Django's `runtests.py` does.

    tests/runtests.py                           everything, on SQLite
    tests/runtests.py --db postgresql           everything, on PostgreSQL
    tests/runtests.py db core.handlers.test_asgi
    tests/runtests.py test_bridge.test_nested   one test, by name
    tests/runtests.py --db all                  on SQLite, then on PostgreSQL
    tests/runtests.py --parallel 2              in two processes, each with a database of its own
    tests/runtests.py --upstream [LABEL ...]    Django's own suite: see upstream/command.py

A label is the dotted path of a folder, a module, or a test in a module, below tests/. What follows
`--` goes to pytest. Exit status: that of the first run that failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from upstream import command as upstream_command

TESTS = Path(__file__).resolve().parent
DATABASES = ("sqlite", "postgresql")
# Each process keeps up to a score of connections, and PostgreSQL takes 100 as it is delivered.
MOST_PROCESSES = 4


def main() -> int:
    """Run pytest once for each database asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", nargs="*")
    parser.add_argument("--db", choices=[*DATABASES, "all"], default="sqlite")
    parser.add_argument("--failfast", action="store_true", help="stop at the first failure")
    parser.add_argument("--pdb", action="store_true", help="debug failures")
    parser.add_argument("--parallel", default="1", help="how many processes, or auto")
    upstream_command.add_arguments(parser)
    own, rest = _split(sys.argv[1:])
    options = parser.parse_args(own)
    if options.upstream:
        return _upstream(options)
    arguments = [str(target(label)) for label in options.labels] or [str(TESTS)]
    arguments += ["-x"] * options.failfast + ["--pdb"] * options.pdb + rest
    if (processes := parallel(options.parallel)) > 1:
        # A process that has run its share takes from another's: a few tests take long.
        arguments += ["--numprocesses", str(processes), "--dist", "worksteal"]
    status = 0
    for database in DATABASES if options.db == "all" else (options.db,):
        print(f"tests on {database}:", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=TESTS.parent,
            env={**os.environ, "TEST_DB": database},
        )
        status = status or done.returncode
    return status


def parallel(asked: str) -> int:
    """How many processes run the tests: as many as asked for, or two for each core.

    Tests wait for servers, for child processes and for the database.
    """
    return min(2 * (os.cpu_count() or 1), MOST_PROCESSES) if asked == "auto" else int(asked)


def _upstream(options: argparse.Namespace) -> int:
    """Run Django's own suite, on one database or on each."""
    status = 0
    for database in DATABASES if options.db == "all" else (options.db,):
        options.db = database
        status = upstream_command.main(options) or status
    return status


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Divide the arguments at `--` into ours and pytest's."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def target(label: str) -> str:
    """Return what pytest calls a dotted label. Raises SystemExit where there is no such test."""
    parts = label.removeprefix("tests.").split(".")
    path = TESTS
    while parts and (path / parts[0]).is_dir():
        path = path / parts.pop(0)
    if not parts:
        return str(path)
    module = path / f"{parts.pop(0)}.py"
    if not module.is_file():
        raise SystemExit(f"No test is called {label!r}: {module} does not exist.")
    return "::".join([str(module), *parts])


if __name__ == "__main__":
    sys.exit(main())
