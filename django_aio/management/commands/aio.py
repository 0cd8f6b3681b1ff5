"""`manage.py aio series`: list the changes of the patch series in this project."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_aio import series
from django_aio.series.report import write_series


class Command(BaseCommand):
    """Do what `python -m django_aio series` does, with the settings of the project."""

    help = "Print the patches of django-aio and what became of each."
    requires_system_checks: list[str] = []  # noqa: RUF012 - the command prints conflicts

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the argument that names what to print."""
        parser.add_argument("what", choices=["series"])

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the series. Exit with status 1 if a patch is in conflict or has drifted."""
        series.apply_all()
        if write_series(self.stdout.write):
            sys.exit(1)
