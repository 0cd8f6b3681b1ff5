"""The table of contents: every change to Django, by area and by the module that it changes.

The tables are the modules of this package. `python -m django_aio series` prints them with what
became of each patch. `apply_series()` applies all but the drivers; a driver's patches (`backend`)
are applied when a connection of its engine is first made, so that a project without PostgreSQL
never imports psycopg. Any thread may apply, under one lock.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import threading

import django
from django.apps import apps

from django_aio import conf
from django_aio.patching import Patch, Status, when_imported
from django_aio.series import contrib, database, packages, presentation, requests, speedups

# By area, in the order in which they are applied.
AREAS: dict[str, tuple[Patch, ...]] = {
    "database": database.TABLE,
    "requests": requests.TABLE,
    "contrib": contrib.TABLE,
    "presentation": presentation.TABLE,
    "packages": packages.TABLE,
    # What makes Django do less work: last, if at all.
    "speedups": speedups.TABLE,
}
_SERIES: tuple[Patch, ...] = tuple(itertools.chain.from_iterable(AREAS.values()))
SPEEDUPS = frozenset(speedups.TABLE)

# On this Django.
SERIES: tuple[Patch, ...] = tuple(patch for patch in _SERIES if patch.since <= django.VERSION)
LEFT_OUT = "left out by AIO['SPEEDUPS']"

# Whether a Django that is not supported is put up with: `python -m django_aio series --any-django`.
any_django = False

_lock = threading.Lock()


def apply_series() -> None:
    """Apply every patch but those of database backends. Idempotent.

    Those of a module that few processes import wait until it is imported.
    """
    with _lock:
        for patch in SERIES:
            if patch in SPEEDUPS and not conf.speedups():
                patch.reason = patch.reason or LEFT_OUT
            elif patch.on_import:
                when_imported(patch.module, patch.apply, patch.by.partition(":")[0])
            elif not patch.backend:
                patch.apply()


def apply_early() -> None:
    """Apply the patches of names that modules of a project import: when the apps are set up.

    Before the modules of apps and models are imported, then, which import the new names as they
    import Django's own.
    """
    with _lock:
        for patch in SERIES:
            if patch.early:
                patch.apply()


def apply_backend(module: str) -> None:
    """Apply the patches of one backend module, such as django.db.backends.sqlite3.base."""
    with _lock:
        for patch in SERIES:
            if patch.backend and patch.module == module:
                patch.apply()


def apply_all() -> None:
    """Apply every patch whose requirements are installed, for `python -m django_aio series`."""
    apply_series()
    for patch in SERIES:
        if not patch.on_import or patch.reason == LEFT_OUT:
            continue
        if not patch.app or apps.is_installed(patch.app):
            with contextlib.suppress(ImportError):
                importlib.import_module(patch.module)
        patch.apply()  # says what it needs, where that is not installed
    for module in dict.fromkeys(patch.module for patch in SERIES if patch.backend):
        apply_backend(module)


def conflicts() -> list[Patch]:
    """The patches that Django's present source does not allow."""
    return [patch for patch in SERIES if patch.status is Status.CONFLICT]


def drifted() -> list[Patch]:
    """The applied patches whose target is not the source they were written against."""
    return [patch for patch in SERIES if patch.drifted]
