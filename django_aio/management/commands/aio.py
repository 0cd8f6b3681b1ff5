"""`manage.py aio series`: what the patch series has changed, in this project."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_aio import series
from django_aio.series.report import write_series


class Command(BaseCommand):
    """As `python -m django_aio series`, with the settings of the project."""

    help = "Print the patches of django-aio and what became of each."
    requires_system_checks: list[str] = []  # noqa: RUF012 - a conflict is what it is to print

    def add_arguments(self, parser: CommandParser) -> None:
        """What is to be printed."""
        parser.add_argument("what", choices=["series"])

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the series. Exit status 1 if a patch is in conflict or has drifted."""
        series.apply_all()
        if write_series(self.stdout.write):
            sys.exit(1)
