"""Which database the demo uses: `DATABASE_URL`, or a SQLite file beside manage.py.

The parser knows the two engines that the demo was tried on and refuses every other scheme, so that
a typing error is a sentence and not a traceback from a driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    import psycopg

EXAMPLE = "postgres://user:password@host:5432/name or sqlite:////path/to/file"

Config = dict[str, Any]


def from_url(url: str) -> Config:
    """Return the entry of Django's DATABASES that `url` describes.

    Raises ImproperlyConfigured, without repeating the URL: it may hold a password.
    """
    parts = urlsplit(url)
    name = unquote(parts.path[1:])
    if parts.scheme not in ("postgres", "postgresql", "sqlite"):
        raise ImproperlyConfigured(
            f"DATABASE_URL: the scheme {parts.scheme!r} is not supported. Use {EXAMPLE}."
        )
    if not name:
        raise ImproperlyConfigured(f"DATABASE_URL names no database. Use {EXAMPLE}.")
    if parts.scheme == "sqlite":
        return sqlite(name)
    try:
        port = parts.port
    except ValueError as error:
        raise ImproperlyConfigured(f"DATABASE_URL: {error}. Use {EXAMPLE}.") from None
    # Six connections are kept open for the six queries of a country page: opening one takes longer
    # than any of them. Six visitors at once may ask for such a page.
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": port or "",
        "OPTIONS": {"pool": {"min_size": 6, "max_size": 36}, **dict(parse_qsl(parts.query))},
    }


def sqlite(path: str | Path) -> Config:
    """Return the settings of a SQLite file that many readers and one writer use at a time.

    WAL lets readers go on while somebody writes. IMMEDIATE takes the write lock when a transaction
    begins: a transaction that reads first and writes later could otherwise fail at the write, and
    no timeout would help it.
    """
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL",
            "transaction_mode": "IMMEDIATE",
        },
    }


def create_if_missing(config: Config) -> bool:
    """Create the PostgreSQL database that `config` names; return whether that was needed.

    SQLite makes its file by itself. Raises psycopg.Error where the server cannot be reached or
    the user may not create databases.
    """
    if config["ENGINE"] != "django.db.backends.postgresql":
        return False
    import psycopg
    from psycopg import sql

    try:
        # A user of a hosted server may have this one database and no access to 'postgres'.
        with _connect(config, config["NAME"]):
            return False
    except psycopg.OperationalError as error:
        unreachable = error
    with _maintenance(config) as connection:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(query, [config["NAME"]]).fetchone():
            raise unreachable
        name = sql.Identifier(config["NAME"])
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    return True


def drop(config: Config) -> None:
    """Drop a PostgreSQL database. Only `check.py` does that, with the one that it created."""
    from psycopg import sql

    with _maintenance(config) as connection:
        name = sql.Identifier(config["NAME"])
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@contextmanager
def _maintenance(config: Config) -> Iterator[psycopg.Connection[Any]]:
    """A connection to 'postgres', from where databases are created and dropped."""
    with _connect(config, "postgres") as connection:
        yield connection


def _connect(config: Config, name: str) -> psycopg.Connection[Any]:
    import psycopg

    options = {key: value for key, value in config["OPTIONS"].items() if key != "pool"}
    return psycopg.connect(
        dbname=name,
        user=config["USER"] or None,
        password=config["PASSWORD"] or None,
        host=config["HOST"] or None,
        port=config["PORT"] or None,
        autocommit=True,  # CREATE DATABASE cannot run in a transaction
        **options,
    )
