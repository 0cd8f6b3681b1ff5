"""Divides the suite among processes and starts them."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import django

from upstream import sdist

TESTS = Path(__file__).resolve().parents[1]
ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
}
GIS_ENGINES = {
    "sqlite": "django.contrib.gis.db.backends.spatialite",
    "postgresql": "django.contrib.gis.db.backends.postgis",
}
GIS = "gis_tests"
# A commit need not wait for the disk: nobody's data is in these databases.
ENVIRONMENT = {"PGOPTIONS": "-c synchronous_commit=off"}


@dataclass
class Job:
    """What one process runs. Passed to it as JSON."""

    mode: str
    engine: str
    lane: int  # jobs of one lane run one after the other, in a database of their own
    labels: list[str]
    servers: list[str]
    suite: str = ""
    results: str = ""
    modules: list[str] = field(default_factory=list)  # those whose code may run on the loop
    selenium: bool = False  # only the tests that need a browser, with one
    verify: bool = False  # compile every query afresh beside the SQL that was kept

    def environment(self) -> dict[str, str]:
        return {**os.environ, **ENVIRONMENT, "AIO_UPSTREAM": json.dumps(asdict(self))}


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "upstream.worker", *options]


def modules(suite: Path) -> list[str]:
    """The labels of the whole suite but `gis_tests`, as Django's own runner finds them."""
    job = Job("stock", ENGINES["sqlite"], 0, [], [], str(suite))
    done = subprocess.run(
        command("--list"), cwd=TESTS, env=job.environment(), stdout=subprocess.PIPE, check=True
    )
    return list(json.loads(done.stdout))


def why_no_gis(database: str) -> str:
    """What is missing for `gis_tests`, or an empty string."""
    missing = [name for name in ("gdal", "geos_c") if not ctypes.util.find_library(name)]
    if missing:
        return f"the libraries {', '.join(missing)} are not installed"
    return _no_spatialite() if database == "sqlite" else _no_postgis()


def _no_spatialite() -> str:
    connection = sqlite3.connect(":memory:")
    try:
        if not hasattr(connection, "enable_load_extension"):
            return "this Python's sqlite3 cannot load extensions"
        connection.enable_load_extension(True)
        connection.load_extension("mod_spatialite")
    except sqlite3.OperationalError as error:
        return f"SpatiaLite: {error}"
    finally:
        connection.close()
    return ""


def _no_postgis() -> str:
    if not importlib.util.find_spec("psycopg"):
        return "psycopg is not installed"
    import psycopg

    host, user = os.environ.get("PGHOST", "127.0.0.1"), os.environ.get("PGUSER", "postgres")
    with psycopg.connect(host=host, user=user, dbname="postgres") as connection:
        found = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'")
        return "" if found.fetchone() else "PostGIS is not installed on the server"


class Weights:
    """How long each label took when it was last run on this database, in seconds."""

    def __init__(self, suite: Path, database: str) -> None:
        self._suite = suite
        self._path = sdist.CACHE / f"seconds-{django.__version__}-{database}.json"
        self._seconds: dict[str, float] = {}
        if self._path.exists():
            self._seconds = json.loads(self._path.read_text())

    def __getitem__(self, label: str) -> float:
        """Before the first run, a guess from the size of the tests."""
        module = label.split(".")[0]
        if module not in self._seconds:
            sources = (self._suite / module).rglob("*.py")
            self._seconds[module] = sum(path.stat().st_size for path in sources) / 10_000
        return self._seconds[module]

    def learn(self, seconds: dict[str, float]) -> None:
        self._seconds |= seconds
        self._path.write_text(json.dumps(self._seconds))


def divide(labels: Iterable[str], weights: Weights, loads: Sequence[float]) -> list[list[str]]:
    """Divide labels among as many lanes as there are `loads`, which are what each has already."""
    total = list(loads)
    lanes: list[list[str]] = [[] for _ in loads]
    for label in sorted(labels, key=lambda label: (-weights[label], label)):
        lane = total.index(min(total))
        lanes[lane].append(label)
        total[lane] += weights[label]
    return [sorted(lane) for lane in lanes]


class Lane:
    """Jobs that run one after the other. Used by the command's only thread."""

    def __init__(self, jobs: list[Job], options: list[str], *, quiet: bool) -> None:
        self._jobs = jobs
        self._command = command(*options)
        self._quiet = quiet
        self._process: subprocess.Popen[bytes] | None = None
        self._next = 0

    def going(self) -> bool:
        """Whether there is more to wait for. Starts the next job when one has ended."""
        if self._process is not None and self._process.poll() is None:
            return True
        if self._next == len(self._jobs):
            return False
        job = self._jobs[self._next]
        self._next += 1
        log = open(Path(job.results).with_suffix(".log"), "w") if self._quiet else None  # noqa: SIM115
        self._process = subprocess.Popen(
            self._command, cwd=TESTS, env=job.environment(), stdout=log, stderr=log
        )
        if log is not None:
            log.close()
        return True

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


def run(lanes: list[list[Job]], options: list[str], *, quiet: bool) -> float:
    """Run the jobs of all lanes to their end. Returns the seconds it took."""
    began = time.monotonic()
    running = [Lane(jobs, options, quiet=quiet) for jobs in lanes]
    try:
        while any([lane.going() for lane in running]):  # noqa: C419 - each must be asked
            time.sleep(0.2)
    finally:
        for lane in running:
            lane.stop()
    return time.monotonic() - began
