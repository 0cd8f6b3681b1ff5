"""The database of one run: made, migrated and filled before it, gone after it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contenders import SITE, site_environ

# A run drops the database it is pointed at. With this prefix it can't be somebody's own.
PREFIX = "aio_bench"


class DatabaseError(RuntimeError):
    """The database could not be made, migrated or filled."""


@contextlib.contextmanager
def prepared(engine: str, *, keep: bool) -> Iterator[dict[str, str]]:
    """Have a filled database for the length of the block.

    Yields the environment that points the site at it. With `keep` the database stays; the next
    run makes it anew all the same, so that no run sees the rows of another.
    """
    maker = _sqlite if engine == "sqlite" else _postgresql
    with maker(keep) as name:
        environ = {"BENCH_DB": name, "BENCH_ENGINE": engine}
        _manage(environ, "migrate", "--verbosity=0")
        _manage(environ, "fill")
        yield environ


def made(engine: str) -> contextlib.AbstractContextManager[str]:
    """Have an empty database for the length of a block. Yields its name, for SQLite its path."""
    return (_sqlite if engine == "sqlite" else _postgresql)(False)


def _manage(environ: dict[str, str], *arguments: str) -> None:
    """Run a management command of the site, with Django as it is."""
    command = [sys.executable, str(SITE / "manage.py"), *arguments]
    settings = {"BENCH_AIO": "0", "BENCH_VIEWS": "async"}
    environ = site_environ() | environ | settings
    finished = subprocess.run(command, check=False, env=environ, capture_output=True, text=True)
    if finished.returncode:
        raise DatabaseError(f"manage.py {arguments[0]} failed:\n{finished.stderr}")


@contextlib.contextmanager
def _sqlite(keep: bool) -> Iterator[str]:
    """A database file in a directory of its own."""
    if keep:
        name = str(Path(tempfile.mkdtemp(prefix=PREFIX)) / "bench.sqlite3")
        yield name
        print(f"Kept {name}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix=PREFIX) as directory:
        yield str(Path(directory) / "bench.sqlite3")


@contextlib.contextmanager
def _postgresql(keep: bool) -> Iterator[str]:
    """A database on the server of the PG* environment variables."""
    name = os.environ.get("BENCH_DB", PREFIX)
    if not name.startswith(PREFIX):
        raise DatabaseError(f"BENCH_DB must begin with {PREFIX!r}: a run drops that database.")
    # Without FORCE: if another run is using it, say so instead of taking it away.
    _administer("DROP DATABASE IF EXISTS {}", name)
    _administer("CREATE DATABASE {}", name)
    try:
        yield name
    finally:
        if keep:
            print(f"Kept database {name}", file=sys.stderr)
        else:
            _administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def _administer(statement: str, name: str) -> None:
    """Run one statement about the database `name` from the database `postgres`."""
    # Here, so that --database sqlite does not need psycopg.
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(
            host=os.environ.get("PGHOST", "127.0.0.1"),
            user=os.environ.get("PGUSER", "postgres"),
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise DatabaseError(f"{statement.format(name)}: {error}") from error
