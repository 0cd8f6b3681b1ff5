"""The database cache: on the chain's connection, in its transaction, without a thread."""

import asyncio

import pytest
from conftest import bridge_pool, out_of_the_pool, postgresql_only
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection, transaction
from django.test import override_settings
from staying import on_the_loop
from testapp.models import Author

from django_aio import run

from .test_operations import awaited, bridged, operate

TABLE = "cache_of_tests"
BACKEND = "django.core.cache.backends.db.DatabaseCache"


@pytest.fixture
def cache(db):
    with override_settings(CACHES={"default": {"BACKEND": BACKEND, "LOCATION": TABLE}}):
        call_command("createcachetable", verbosity=0)
        yield caches["default"]
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {TABLE}")


@pytest.fixture
def leased(cache, pooled):
    """The same cache, on a pool of four connections."""
    return cache


@pytest.mark.parametrize("way", [awaited, bridged])
def test_as_stock_and_on_the_loop(cache, way):
    async def on_a_loop():
        call = way(cache)
        await call("get", "warm")
        with on_the_loop():
            found = await operate(call)
        await call("clear")
        return found

    assert asyncio.run(on_a_loop()) == stock(operate, cache)


def stock(operate, cache):
    """The same in a thread without a loop: nothing is ever waited for."""

    async def call(name, *args, **kwargs):
        return getattr(cache, name)(*args, **kwargs)

    try:
        operate(call).send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


@pytest.mark.parametrize("way", [awaited, bridged])
async def test_what_is_stored_is_part_of_the_transaction(cache, way):
    call = way(cache)
    await call("set", "key", "before")
    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await call("set", "key", "inside")
            await Author.objects.acreate(name="inside")
            assert await call("get", "key") == "inside"
            raise ZeroDivisionError
    assert await call("get", "key") == "before"
    assert not await Author.objects.aexists()


async def test_both_colours_share_the_connection_of_the_chain(cache):
    seen = []

    def note(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        await cache.aset("key", 1)
        before = len(seen)
        await run(cache.get, "key")
    assert TABLE in seen[0]
    assert TABLE in seen[before]


async def test_tasks_have_connections_of_their_own(cache):
    async def task(number):
        await cache.aset(f"key{number}", number)
        return await cache.aget(f"key{number}")

    assert await asyncio.gather(*map(task, range(8))) == list(range(8))


async def test_culling(cache):
    cache._max_entries = 4
    for number in range(8):
        await cache.aset(f"key{number}", number)
    assert await cache.aget("key7") == 7
    found = await cache.aget_many([f"key{number}" for number in range(8)])
    assert len(found) <= 5


CALLS = {
    "set": ("key", 1),
    "get": ("key",),
    "add": ("key", 1),
    "touch": ("key",),
    "has_key": ("key",),
    "get_many": (["key", "other"],),
    "incr": ("key",),
    "delete_many": (["key", "other"],),
    "delete": ("key",),
    "clear": (),
}


@postgresql_only
@pytest.mark.parametrize("way", [awaited, bridged])
async def test_a_leased_connection_is_given_back(leased, way):
    call = way(leased)
    await call("set", "key", 1)
    for name, arguments in CALLS.items():
        await call("set", "key", 1)
        await call(name, *arguments)
        assert connection.connection is None, name
        assert not await out_of_the_pool(), name


@postgresql_only
async def test_a_raw_cursor_would_keep_it(leased):
    """What the test above relies on."""
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT 1")
    await leased.aget("key")
    assert connection.connection is not None


@postgresql_only
async def test_a_failed_statement_gives_it_back(leased):
    """The table is missing: Django reports that, and nothing is held."""
    leased._table = "no_such_table"
    with pytest.raises(Exception, match="no_such_table"):
        await leased.aget("key")
    assert connection.connection is None
    assert bridge_pool().out == {}


@postgresql_only
async def test_waiting_elsewhere_holds_nothing(leased):
    """Forty tasks, each between two calls at the same time, share a pool of four."""
    everyone = asyncio.Barrier(40)

    async def task(number):
        await leased.aset(f"key{number}", number)
        await everyone.wait()
        return await leased.aget(f"key{number}")

    async with asyncio.timeout(20):
        assert await asyncio.gather(*map(task, range(40))) == list(range(40))
