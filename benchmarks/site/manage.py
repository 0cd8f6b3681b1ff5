"""The command line of the benchmark site; `run.py` calls it to migrate and to load the data."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.settings")
    execute_from_command_line(sys.argv)
