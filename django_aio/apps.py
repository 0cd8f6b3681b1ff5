"""`INSTALLED_APPS = ["django_aio", ...]`: refuses what cannot work, then applies the series.

Runs once, in the thread that calls `django.setup()`.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType

import django
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured

from django_aio import checks, conf, series
from django_aio.bridge import BridgeError, refuse_monkey_patching
from django_aio.checks import listed, threads

OLDEST, NEWEST = (5, 2), (6, 1)

# For each of Django's engines: its name, its driver and what else would do, in a thread, the extra.
DRIVERS = {
    "django.db.backends.sqlite3": ("SQLite", ("aiosqlite",), "sqlite"),
    "django.contrib.gis.db.backends.spatialite": ("SpatiaLite", ("aiosqlite",), "sqlite"),
    "django.db.backends.postgresql": ("PostgreSQL", ("psycopg", "psycopg2"), "postgresql"),
    "django.contrib.gis.db.backends.postgis": ("PostGIS", ("psycopg", "psycopg2"), "postgresql"),
}

# The same for caches. pylibmc and other clients work in a thread.
CACHE_CLIENTS = {
    "django.core.cache.backends.redis.RedisCache": ("Redis", ("redis",), "redis"),
    "django.core.cache.backends.memcached.PyMemcacheCache": (
        "memcached",
        ("pymemcache",),
        "memcached",
    ),
}


class DjangoAIOConfig(AppConfig):
    """Applies the patch series when the app registry loads."""

    name = "django_aio"
    verbose_name = "django-aio"

    def __init__(self, app_name: str, app_module: ModuleType | None) -> None:
        """Apply the patches of names that modules of the apps after this one import."""
        super().__init__(app_name, app_module)
        refuse_unsupported_django()
        series.apply_early()

    def ready(self) -> None:
        """Apply the series. Raises ImproperlyConfigured where django-aio cannot work."""
        refuse_unsupported_django()
        try:
            refuse_monkey_patching()
        except BridgeError as error:
            raise ImproperlyConfigured(str(error)) from None
        refuse_missing_driver()
        conf.listed()  # a wrong AIO setting is an error now
        conf.speedups()
        series.apply_series()
        for check in (
            checks.check_series,
            checks.check_place,
            checks.check_drivers,
            *listed.CHECKS,
            *threads.CHECKS,
        ):
            register(check, "async_support")


def refuse_unsupported_django() -> None:
    """Raise ImproperlyConfigured unless the series was written for this Django."""
    if not (OLDEST <= django.VERSION[:2] <= NEWEST or series.any_django):
        raise ImproperlyConfigured(
            f"django-aio supports Django {_dotted(OLDEST)} to {_dotted(NEWEST)}; this is Django "
            f"{django.__version__}. Install one of those, or a django-aio made for this Django."
        )


def refuse_missing_driver() -> None:
    """Raise ImproperlyConfigured if a configured database or cache has no driver installed."""
    for setting, key, drivers in (
        ("DATABASES", "ENGINE", DRIVERS),
        ("CACHES", "BACKEND", CACHE_CLIENTS),
    ):
        for alias, options in getattr(settings, setting).items():
            known = drivers.get(options.get(key, ""))
            if known is not None:
                _refuse_unless_installed(f"{setting}[{alias!r}]", *known)


def _refuse_unless_installed(entry: str, name: str, modules: tuple[str, ...], extra: str) -> None:
    if not any(importlib.util.find_spec(module) for module in modules):
        raise ImproperlyConfigured(
            f"{entry} is {name}, which django-aio reaches through {modules[0]}, and {modules[0]} "
            f"is not installed. Install it with 'pip install django-aio[{extra}]'."
        )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
