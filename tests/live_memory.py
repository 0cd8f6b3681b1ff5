"""The settings of the tests, with an in-memory database.

As a script: Django's own runner, which is what projects use, on the labels that are given.
"""

import os
import sys

from settings import *  # noqa: F403 - all but the database

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "TEST": {"MIGRATE": False},
    }
}

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "live_memory"
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", "test", *sys.argv[1:]])
