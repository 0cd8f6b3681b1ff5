"""Connections of Django's own pool that were opened before a chain first used the engine."""

import os
import subprocess
import sys

import pytest
from conftest import postgresql_only

pytestmark = postgresql_only

SITE = """
import asyncio, os
import django
from django.conf import settings
from django.db import connection, connections

database = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": os.environ.get("PGHOST", "127.0.0.1"),
    "PORT": os.environ.get("PGPORT", "5432"),
    "USER": os.environ.get("PGUSER", "postgres"),
    "PASSWORD": os.environ.get("PGPASSWORD", ""),
    "NAME": "postgres",
    "OPTIONS": {"pool": {"min_size": 1, "max_size": 3, "timeout": 10}},
}
settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["django_aio"], USE_TZ=True)
django.setup()

def sql(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]

assert sql("SELECT 1") == 1
connections.close_all()
SET = "SELECT set_config('app.tenant', 'ada', false)"
SHOW = "SELECT coalesce(current_setting('app.tenant', true), '')"
"""
CALLS = """
async def main():
    for _ in range(6):
        assert await asyncio.to_thread(sql, SET) == "ada"
        assert await asyncio.to_thread(sql, SHOW) == ""
"""
UNSAFE = """
async def main():
    async def cell():
        assert sql(SHOW) == ""
        assert sql(SET) == "ada"

    for _ in range(6):
        await asyncio.create_task(cell())
"""
END = """
asyncio.run(main())
connection.close_pool()
print("ok")
"""


@pytest.mark.parametrize("main", [CALLS, UNSAFE], ids=["to_thread", "unsafe"])
def test_they_are_given_back_with_nothing_of_anybodys(main):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{SITE}{main}{END}"],
        env={**os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE": "1" if main is UNSAFE else ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    assert "Traceback" not in done.stderr
