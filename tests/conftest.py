"""What all tests share: coroutine tests, and a database that is empty again after each test."""

import asyncio
import gc
import inspect
import os
import time
from pathlib import Path

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()

from contents import Contents  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.signals import request_finished, request_started  # noqa: E402
from django.db import connection, connections  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.test.utils import (  # noqa: E402
    setup_databases,
    setup_test_environment,
    teardown_databases,
    teardown_test_environment,
)
from testapp import protocols  # noqa: E402

from django_aio import loops  # noqa: E402

postgresql_only = pytest.mark.skipif(
    settings.TEST_DB != "postgresql", reason="needs PostgreSQL (TEST_DB=postgresql)"
)
sqlite_only = pytest.mark.skipif(settings.TEST_DB != "sqlite", reason="needs TEST_DB=sqlite")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a coroutine test on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session", autouse=True)
def _environment():
    setup_test_environment()
    yield
    teardown_test_environment()


def _wait_for_others(seconds=10.0):
    """Wait until no other session uses the database: a server of a test that was ended, say.

    PostgreSQL ends the session of a client that is gone when it has noticed that.
    """
    query = (
        "SELECT application_name, state, query FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database() AND backend_type = 'client backend'"
    )
    until = time.monotonic() + seconds
    with connection.cursor() as cursor:
        while (left := cursor.execute(query).fetchall()) and time.monotonic() < until:
            time.sleep(0.05)
    assert not left, "sessions that no test has ended"


@pytest.fixture(scope="session")
def _database(_environment):
    """The test database: what is in it before each test."""
    old = setup_databases(verbosity=0, interactive=False)
    gc.collect()
    gc.freeze()  # Django and the tests themselves are no garbage: need not be looked at each time
    if connection.vendor == "postgresql":
        # No test needs its rows to outlive a power failure.
        with connection.cursor() as cursor:
            name = connection.ops.quote_name(connection.settings_dict["NAME"])
            cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    yield Contents()
    gc.unfreeze()
    gc.collect()
    if connection.vendor == "postgresql":
        _wait_for_others()
    connections.close_all()  # a test may have put another object in the place of the first
    teardown_databases(old, verbosity=0)
    if settings.TEST_DB == "sqlite":
        for path in Path(settings.DATABASES["default"]["NAME"]).parent.glob(f"{settings.NAME}*"):
            path.unlink()


@pytest.fixture
def db(_database):
    """An empty database whose changes are committed, so that every connection sees them."""
    yield
    gc.collect()
    _database.restore()
    connections.close_all()


@pytest.fixture
def persistent(db, monkeypatch):
    """Connections live longer than a request, as on a site: connecting is not what is tested."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)


@pytest.fixture
def pooled(db, monkeypatch):
    """PostgreSQL with a pool of 4 connections."""
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL (TEST_DB=postgresql)")
    connections.close_all()  # it was not leased from a pool
    options = {"pool": {"min_size": 1, "max_size": 4, "timeout": 5}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    yield
    # Django's own pool, if the test used a connection outside the loop.
    connections.close_all()
    if "default" in connection._connection_pools:
        connection.close_pool()


KEPT = {
    "pool": {"OPTIONS": {"pool": {"min_size": 1, "max_size": 4, "timeout": 5}}},
    "CONN_MAX_AGE": {"CONN_MAX_AGE": 60},
    "neither": {},
}


@pytest.fixture(params=KEPT)
def kept(request, monkeypatch):
    """How connections are kept."""
    connections.close_all()
    for name, value in KEPT[request.param].items():
        monkeypatch.setitem(connections.settings["default"], name, value)
    yield request.param
    connections.close_all()
    sync_pool = connection._connection_pools.pop("default", None)
    if sync_pool is not None:  # the options may be gone by now
        sync_pool.close()


def bridge_pool():
    """The pool of the default database on the running loop."""
    return loops.store().pools["default"]


async def all_returned():
    """Wait until psycopg_pool has what goes back to it."""
    while loops.store().tasks:
        await asyncio.wait(loops.store().tasks)


async def out_of_the_pool():
    """The connections that a task has when it has let the loop go on."""
    await asyncio.sleep(0)
    return set(bridge_pool().out)


@pytest.fixture
def request_signals():
    """How often the request signals were sent."""
    counts = {"started": 0, "finished": 0}

    def started(**kwargs):
        counts["started"] += 1

    def finished(**kwargs):
        counts["finished"] += 1

    request_started.connect(started)
    request_finished.connect(finished)
    yield counts
    request_started.disconnect(started)
    request_finished.disconnect(finished)


@pytest.fixture
def protocol_views():
    """The views of both protocols, which say how far they are and note what they have seen."""
    names = ("started", "cancelled", "responded", "go on", "done")
    protocols.events = {name: asyncio.Event() for name in names}
    protocols.seen = {}
    with override_settings(ROOT_URLCONF="testapp.protocols"):
        yield
