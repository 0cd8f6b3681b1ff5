"""`OPTIONS["pool"]`: connections of the loop's own asynchronous pool."""

import asyncio
import warnings

import pytest
from db.endings import in_new_context
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections
from testapp.models import Author

from django_aio import loops, run


async def pid():
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT pg_backend_pid()")
        return (await cursor.fetchone())[0]


async def test_a_returned_connection_is_used_again(pooled):
    async def request():
        found = await pid()
        await run(connection.close)
        return found

    # No more than the pool holds: while one is being reset another serves.
    assert len({await request() for _ in range(20)}) <= 4


async def test_the_pool_bounds_the_connections(pooled):
    pids = await asyncio.gather(*(pid() for _ in range(20)))
    assert len(set(pids)) <= 4


async def test_an_exhausted_pool_times_out(pooled, monkeypatch):
    options = {"pool": {"min_size": 0, "max_size": 1, "timeout": 0.05}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    await pid()
    with pytest.raises(OperationalError, match="couldn't get a connection"):
        await in_new_context(pid())


async def test_a_connection_in_a_transaction_does_not_come_back(pooled):
    from django.db import transaction

    async def forget():
        await transaction.atomic().__aenter__()
        await Author.objects.acreate(name="a")

    await asyncio.create_task(forget())
    assert not await Author.objects.aexists()
    assert len({*await asyncio.gather(*(pid() for _ in range(20)))}) <= 4


async def test_configured_like_djangos(pooled, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with connection.cursor() as cursor:
            await cursor.execute("SHOW timezone")
            assert await cursor.fetchone() == ("UTC",)


async def test_no_persistent_connections_with_a_pool(pooled, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    with pytest.raises(ImproperlyConfigured, match="persistent"):
        await pid()


async def test_closing_the_store_closes_the_pool(pooled):
    await pid()
    await run(connection.close)
    assert loops.store().pools
    await loops.close_store()
    assert not loops.store().pools
    assert await pid()


def test_a_loop_that_ends_closes_its_pool(pooled, monkeypatch, caplog):
    """Also while the pool is opening connections; that is no news for the log."""
    options = {"pool": {"min_size": 8, "max_size": 8}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    for _ in range(5):
        assert asyncio.run(pid())
    assert caplog.text == ""


def test_outside_the_bridge_the_pool_is_djangos(pooled):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    connection.close()
    connection.close_pool()
