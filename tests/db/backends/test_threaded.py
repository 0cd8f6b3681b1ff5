"""Engines without a cooperative driver: psycopg2 in place of psycopg 3, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import postgresql_only

pytestmark = postgresql_only

SITE = """
import asyncio, sys, threading
sys.modules["psycopg"] = None  # as if only psycopg2 were installed
import django
django.setup()
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django_aio import run
from django_aio.checks import check_drivers
from django.contrib.auth.models import Group

assert connection.Database.__name__ == "psycopg2"
(message,) = check_drivers(None)
assert message.id == "django_aio.W002", message
assert "pip install django-aio[postgresql]" in message.hint, message.hint

async def main():
    await Group.objects.all().adelete()
    async with transaction.atomic():
        await Group.objects.abulk_create([Group(name=str(n)) for n in range(250)])
    assert len([group async for group in Group.objects.order_by("pk")]) == 250
    assert len([g async for g in Group.objects.order_by("pk").aiterator(chunk_size=20)]) == 250
    try:
        async with transaction.atomic():
            await Group.objects.acreate(name="x")
            await Group.objects.acreate(name="1")
    except IntegrityError:
        pass
    assert not await Group.objects.filter(name="x").aexists()
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT count(*) FROM auth_group")
        assert await cursor.fetchone() == (250,)
    # The loop goes on while a statement waits.
    ticks = []
    async def tick():
        while len(ticks) < 5:
            ticks.append(1)
            await asyncio.sleep(0)
    async def sleep():
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT pg_sleep(0.05)")
        assert len(ticks) == 5
    await asyncio.gather(sleep(), tick())
    await Group.objects.all().adelete()

call_command("migrate", verbosity=0)
asyncio.run(main())
connections.close_all()
print("done")
"""


@pytest.mark.usefixtures("db")
def test_psycopg2_works_in_a_thread():
    pytest.importorskip("psycopg2")
    from django.db import connection

    name = f"{connection.settings_dict['NAME']}_psycopg2"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    settings = f"from settings import *\nDATABASES['default']['NAME'] = {name!r}\n"
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", SITE],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **configured(settings)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    assert done.stdout.endswith("done\n"), done.stderr


def configured(source):
    """An environment whose settings module is `source`."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    (folder / "psycopg2_settings.py").write_text(source)
    root = Path(__file__).parents[3]
    return {
        "DJANGO_SETTINGS_MODULE": "psycopg2_settings",
        "PYTHONPATH": os.pathsep.join([str(folder), str(root), str(root / "tests")]),
        "TEST_DB": "postgresql",
    }
