"""What `scripts/test` runs: lint, types, the tests on every database that answers, random SQL.

Ends with one line that adds up all runs: "N passed, N failed, N skipped". Exit status 1 if anything
failed. Run by the Python of .venv, from the root of the checkout.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from servers import ADDRESSES, answers

# What our tests talk to so far.
USED = ("PostgreSQL", "Redis", "memcached")
STATIC = (
    ("lint", ["-m", "ruff", "check", "."]),
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("types", ["-m", "mypy"]),
    ("parameters that are Any", ["scripts/count_any", "--max", "10"]),
)
# Is the SQL that is kept what Django makes? Some ten seconds of it; more by hand.
FUZZ = ["tests/fuzz_sql.py", "--count", "20000"]
PARALLEL = ("--parallel", "auto")
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|xfailed|errors?)\b")


def main() -> int:
    """Run everything; with labels only their tests. Returns the exit status."""
    labels = sys.argv[1:]
    found = servers()
    failures = [] if labels else static_checks()
    totals = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for database in ["sqlite"] + ["postgresql"] * ("PostgreSQL" in found):
        print(f"\n== tests on {database}", flush=True)
        status, counts = run_tests(["tests/runtests.py", *PARALLEL, "--db", database, *labels])
        for name in totals:
            totals[name] += counts.get(name, 0)
        if status:
            failures.append(f"tests on {database}")
    if not labels:
        print("\n== random querysets", flush=True)
        if subprocess.run([sys.executable, *FUZZ]).returncode:
            failures.append("random querysets")
    for failure in failures:
        print(f"FAILED: {failure}")
    totals["failed"] += sum(not name.startswith("tests on") for name in failures)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**totals))
    return 1 if failures else 0


def servers() -> list[str]:
    """The servers that answer. Says in one line which. Ends the run if one is required."""
    found = [name for name in ADDRESSES if answers(name)]
    absent = [name for name in ADDRESSES if name not in found]
    print(f"Servers found: {', '.join(found) or 'none'}; not found: {', '.join(absent) or 'none'}.")
    needed = [name for name in USED if name in absent]
    if needed and os.environ.get("REQUIRE_SERVERS"):
        sys.exit(f"{', '.join(needed)} must answer, because REQUIRE_SERVERS is set.")
    if needed:
        print(f"Tests that need {', '.join(needed)} are skipped.")
    return found


def static_checks() -> list[str]:
    """Run the linters. Returns the names of those that failed."""
    failed = []
    for name, command in STATIC:
        started = time.monotonic()
        done = subprocess.run([sys.executable, *command])
        print(
            f"{name}: {'failed' if done.returncode else 'ok'}, {time.monotonic() - started:.1f} s"
        )
        if done.returncode:
            failed.append(name)
    return failed


def run_tests(command: list[str]) -> tuple[int, dict[str, int]]:
    """Run one suite, showing its output. Returns its status and how many passed, failed, ..."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    counts: dict[str, int] = {}
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if " in " in line and (found := COUNTS.findall(line)):
            counts = {}
            for number, name in found:
                name = "failed" if name.startswith("error") else name
                counts[name] = counts.get(name, 0) + int(number)
    return process.wait(), counts


if __name__ == "__main__":
    sys.exit(main())
