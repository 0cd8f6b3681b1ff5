"""The driver of each engine."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from django_aio.db.backends.driver import Driver
from django_aio.db.backends.threaded import ThreadedDriver
from django_aio.series import apply_backend


def driver_of(engine: type[BaseDatabaseWrapper]) -> Driver:
    """The driver of a backend class.

    It is cooperative for Django's PostgreSQL and SQLite backends and all that derive from them;
    others work in a thread.
    """
    if engine not in _drivers:
        _drivers[engine] = _find_driver(engine)
    return _drivers[engine]


_drivers: dict[type[BaseDatabaseWrapper], Driver] = {}


def _find_driver(engine: type[BaseDatabaseWrapper]) -> Driver:
    for cls in engine.__mro__:
        if cls.__module__ == "django.db.backends.sqlite3.base":
            apply_backend(cls.__module__)
            from django_aio.db.backends.sqlite3.driver import SQLiteDriver

            return SQLiteDriver()
        if cls.__module__ == "django.db.backends.postgresql.base":
            from django.db.backends.postgresql.psycopg_any import is_psycopg3

            if not is_psycopg3:
                break
            apply_backend(cls.__module__)
            from django_aio.db.backends.postgresql.driver import PostgreSQLDriver

            return PostgreSQLDriver()
    return ThreadedDriver()
