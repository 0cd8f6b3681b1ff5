"""`python -m django_aio series`: print the patch series and what became of each patch.

Uses the project of DJANGO_SETTINGS_MODULE if it is set, else a bare Django. Exit status 1 if a
patch is in conflict or was written against another source.
"""

from __future__ import annotations

import argparse
import os
import sys

import django
from django.conf import settings

from django_aio import __version__, series
from django_aio.patching import Patch, Status


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m django_aio", description=__doc__)
    parser.add_argument("command", choices=["series"])
    parser.parse_args(arguments)
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        settings.configure(
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_aio"]
        )
    django.setup()
    series.apply_all()
    return print_series()


def print_series() -> int:
    """Print one line for each patch and a summary. Returns 1 if any needs attention."""
    print(f"django-aio {__version__} on Django {django.__version__}")
    for patch in series.SERIES:
        print(f"{_state(patch):9} {patch.verb.value:8} {patch.target}")
        wraps = f"wraps {patch.stranger}" if patch.stranger else ""
        remark = patch.reason or wraps
        print(f"{'':18} {patch.why}" + (f" ({remark})" if remark else ""))
    applied = sum(patch.status is Status.APPLIED for patch in series.SERIES)
    wrong = [*series.conflicts(), *series.drifted()]
    print(f"{applied} of {len(series.SERIES)} patches applied, {len(wrong)} need attention")
    return 1 if wrong else 0


def _state(patch: Patch) -> str:
    return "drifted" if patch.drifted else patch.status.value


if __name__ == "__main__":
    sys.exit(main())
