"""The messages of `manage.py check`: about the series and the drivers here, the policy below.

- `django_aio.E001`: a patch could not be applied, so its feature does not work.
- `django_aio.W005`: the same, because another package has replaced its target.
- `django_aio.W001`: a patch was applied to another source than it was written against.
- `django_aio.W002`: a database has no cooperative driver, so its calls run in a thread.
- `django_aio.I010`: `"django_aio"` is not the first of INSTALLED_APPS.
- `django_aio.W003`, `W004` and `I005`: the list and its hazards (`listed.py`).
- `django_aio.I001` to `I004`, `I006` to `I009`: code that runs in a thread, and why (`threads.py`,
  `stores.py`, `templates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import django
from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Info
from django.core.checks import Warning as CheckWarning
from django.db import connections

from django_aio import series
from django_aio.db.backends.registry import driver_of
from django_aio.db.backends.threaded import ThreadedDriver


def check_series(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report patches in conflict or written against another source."""
    messages: list[CheckMessage] = [
        CheckWarning(
            f"The patch '{patch.why}' was left out: {patch.reason}.",
            hint=f"It is lost as long as {patch.stranger} sits there. List 'django_aio' before the "
            "package in INSTALLED_APPS, or start that later.",
            obj=patch.target,
            id="django_aio.W005",
        )
        if patch.stranger
        else Error(
            f"The patch '{patch.why}' could not be applied: {patch.reason}.",
            hint="This Django may not be one that django-aio was written for. 'python -m "
            "django_aio series' lists all patches.",
            obj=patch.target,
            id="django_aio.E001",
        )
        for patch in series.conflicts()
    ]
    messages += [
        CheckWarning(
            f"The patch '{patch.why}' was written against another source of {patch.target} than "
            f"that of Django {django.__version__}.",
            hint="It was applied. Look for a newer django-aio; until then test what it does.",
            obj=patch.target,
            id="django_aio.W001",
        )
        for patch in series.drifted()
    ]
    return messages


def check_place(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the apps that were loaded before the series was applied."""
    names = [config.name for config in apps.get_app_configs()]
    # A test may have overridden INSTALLED_APPS and left out 'django_aio'.
    before = names[: names.index("django_aio")] if "django_aio" in names else []
    if not before:
        return []
    return [
        Info(
            f"'django_aio' is not the first of INSTALLED_APPS: {', '.join(before)} "
            f"{'are' if len(before) > 1 else 'is'} loaded before it.",
            hint="Make it the first. The apps before it cannot import the new names from Django's "
            "modules, and what they change in Django comes below the patches.",
            id="django_aio.I010",
        )
    ]


def check_drivers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the databases whose statements run in a thread, and the remedy if there is one."""
    return [
        CheckWarning(
            f"The database {alias!r} ({connections[alias].display_name}) has no cooperative driver "
            "here: its statements run in a thread.",
            hint="Install psycopg 3 with 'pip install django-aio[postgresql]'."
            if connections[alias].vendor == "postgresql"
            else "Everything works; each statement costs a hand-over to a thread.",
            id="django_aio.W002",
        )
        for alias in connections
        if isinstance(driver_of(type(connections[alias])), ThreadedDriver)
        and connections[alias].vendor != "unknown"
    ]
