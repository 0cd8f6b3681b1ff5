"""`manage.py fill`: load the rows that the pages show."""

from __future__ import annotations

import random
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.db import connection

from ...data import MESSAGES, PASSWORD, USERS, WORLDS
from ...models import Fortune, World


class Command(BaseCommand):
    """Fills the tables of a freshly migrated database."""

    help = "Load the rows of the benchmark into the empty tables."

    def handle(self, *args: Any, **options: Any) -> None:
        """Load the same rows each time, then leave the server nothing to tidy up later.

        Without VACUUM and ANALYZE here, PostgreSQL's autovacuum would do both some time within the
        next minute: in the middle of somebody's measurement.
        """
        numbers = random.Random(2018)
        World.objects.bulk_create(
            World(pk=key, number=numbers.randint(1, WORLDS)) for key in range(1, WORLDS + 1)
        )
        Fortune.objects.bulk_create(
            Fortune(pk=key, message=message) for key, message in enumerate(MESSAGES, start=1)
        )
        password = make_password(PASSWORD)
        User.objects.bulk_create(
            User(username=f"user{number}", password=password) for number in range(USERS)
        )
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("ANALYZE")
