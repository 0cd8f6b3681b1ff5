"""`python -m django_aio series`: print the patch series with the state of each patch.

Uses the project of DJANGO_SETTINGS_MODULE if it is set, else a bare Django. --any-django allows an
unsupported Django, to see what has changed there. Exit status 1 if a patch is in conflict or was
written against another source.
"""

from __future__ import annotations

import argparse
import os
import sys

import django
from django.conf import settings

from django_aio import series
from django_aio.series.report import write_series


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m django_aio", description=__doc__)
    parser.add_argument("command", choices=["series"])
    parser.add_argument("--any-django", action="store_true", help="also on an unsupported Django")
    options = parser.parse_args(arguments)
    series.any_django = options.any_django
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        settings.configure(
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_aio"]
        )
    django.setup()
    series.apply_all()
    return 1 if write_series(print) else 0


if __name__ == "__main__":
    sys.exit(main())
