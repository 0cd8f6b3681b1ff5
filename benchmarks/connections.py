"""What `connections["default"]` costs a plain thread, without and with the series.

    python benchmarks/connections.py
    python benchmarks/connections.py --max-ratio 2

Every query looks its connection up, also those of synchronous projects that never start a loop:
the series promises that nothing changes for them, and this is where they would pay. Each figure
comes from a process of its own, and the two take turns. No database server is needed.

Exit status: 0, or 1 if the ratio is higher than `--max-ratio` allows.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import threading
import timeit
from collections.abc import Sequence
from pathlib import Path

from report import markdown, ratios, spread

ROOT = Path(__file__).resolve().parent.parent
STOCK, OURS = "Django", "Django + django-aio"
APPS = {STOCK: ["django.contrib.contenttypes"]}
APPS[OURS] = [*APPS[STOCK], "django_aio"]
# The shortest of a few timings in one process: whatever is longer was disturbed.
TIMINGS = 5


def child(name: str, engine: str, loops: int) -> None:
    """Print the nanoseconds of one look-up in a thread of this process."""
    sys.path.insert(0, str(ROOT))
    import django
    from django.conf import settings

    database = {"ENGINE": f"django.db.backends.{engine}", "NAME": "unused"}
    settings.configure(INSTALLED_APPS=APPS[name], DATABASES={"default": database})
    if name == OURS:
        # Django takes any importable name for an app: a checkout that applies nothing is no rival.
        importlib.import_module("django_aio.apps")
    django.setup()
    thread = threading.Thread(target=lambda: print(nanoseconds(loops)))
    thread.start()
    thread.join()


def nanoseconds(loops: int) -> float:
    """Time the look-up after the first one, which makes the connection object."""
    from django.db import connections

    timer = timeit.Timer(
        "connections[alias]", globals={"connections": connections, "alias": "default"}
    )
    timer.timeit(1000)
    return min(timer.repeat(TIMINGS, loops)) / loops * 1e9


def one_figure(name: str, engine: str, loops: int) -> float:
    """Run `child()` in a process of its own."""
    command = [
        sys.executable,
        __file__,
        f"--engine={engine}",
        f"--loops={loops}",
        f"--child={name}",
    ]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode or not finished.stdout.strip():
        sys.exit(f"error: {name} could not be measured\n{finished.stderr}")
    return float(finished.stdout)


def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """The figures of both, taken in turns."""
    found: dict[str, list[float]] = {name: [] for name in APPS}
    for _ in range(options.rounds):
        for name in APPS:
            found[name].append(one_figure(name, options.engine, options.loops))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=int, default=7)
    add("--loops", type=int, default=200_000, help="look-ups per timing")
    add("--engine", default="postgresql", help="one of Django's own")
    add("--max-ratio", type=float, help="exit with 1 if the ratio is higher")
    add("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.child, options.engine, options.loops)
        return 0
    found = measure(options)
    ratio = ratios(found[OURS], found[STOCK])
    rows = [
        [STOCK, spread(found[STOCK], digits=0), "1"],
        [OURS, spread(found[OURS], digits=0), spread(ratio, "x")],
    ]
    print(markdown(['connections["default"] in a thread', "ns (range)", "ratio (range)"], rows))
    too_high = options.max_ratio is not None and statistics.median(ratio) > options.max_ratio
    return int(too_high)


if __name__ == "__main__":
    sys.exit(main())
