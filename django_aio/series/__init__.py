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

# The tables by area, in the order in which they are applied.
AREAS: dict[str, tuple[Patch, ...]] = {
    "database": database.TABLE,
    "requests": requests.TABLE,
    "contrib": contrib.TABLE,
    "presentation": presentation.TABLE,
    "packages": packages.TABLE,
    # Last, and only if AIO["SPEEDUPS"] is on.
    "speedups": speedups.TABLE,
}
_SERIES: tuple[Patch, ...] = tuple(itertools.chain.from_iterable(AREAS.values()))
SPEEDUPS = frozenset(speedups.TABLE)

# The patches for the installed Django.
SERIES: tuple[Patch, ...] = tuple(patch for patch in _SERIES if patch.since <= django.VERSION)
LEFT_OUT = "left out by AIO['SPEEDUPS']"

# Whether to accept an unsupported Django: `python -m django_aio series --any-django`.
any_django = False

_lock = threading.Lock()


def apply_series() -> None:
    """Apply every patch but those of database backends. Idempotent.

    The patches of a module that few processes import are applied when it is imported.
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
    """Apply the patches that add names which a project's modules import. Idempotent.

    Called before the modules of apps and models are imported, so that these can import the new
    names as they import Django's own.
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
        patch.apply()  # a patch that needs a missing package says so
    for module in dict.fromkeys(patch.module for patch in SERIES if patch.backend):
        apply_backend(module)


def conflicts() -> list[Patch]:
    """The patches that do not fit the installed Django."""
    return [patch for patch in SERIES if patch.status is Status.CONFLICT]


def drifted() -> list[Patch]:
    """The applied patches whose target is another source than they were written against."""
    return [patch for patch in SERIES if patch.drifted]
