"""An in-memory SQLite database has one physical connection, which all chains use in turn."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from conftest import sqlite_only
from django.db import connection, connections, transaction

from django_aio import hold_connection, loops, run

pytestmark = [sqlite_only, pytest.mark.usefixtures("memory")]


@pytest.fixture
def memory(db, monkeypatch):
    """The default database in memory, empty at the beginning of each loop."""
    connections.close_all()
    name = "file:django_aio_memory?mode=memory&cache=shared"
    monkeypatch.setitem(connections.settings["default"], "NAME", name)
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", {})


async def sql(statement):
    async with connection.cursor() as cursor:
        await cursor.execute(statement)
        return await cursor.fetchall()


async def prepare():
    await sql("CREATE TABLE numbers (n integer)")


async def insert(n):
    await sql(f"INSERT INTO numbers VALUES ({n})")


async def count():
    return (await sql("SELECT count(*) FROM numbers"))[0][0]


async def test_all_chains_see_the_same_database():
    await prepare()
    await asyncio.gather(*(insert(n) for n in range(20)))
    assert await count() == 20
    assert connection.connection is None  # given back


async def test_who_has_it_lends_it_to_his_tasks():
    """There is no other one: while its rows are read, and while it is held."""
    await prepare()
    await insert(1)

    async def child():
        await insert(2)
        async with transaction.atomic():
            return await count()

    async with asyncio.timeout(10):
        async with hold_connection():
            assert await asyncio.create_task(child()) == 2
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT n FROM numbers")
            assert await cursor.fetchone() == (1,)
            assert await asyncio.create_task(child()) == 3
            assert max(await asyncio.gather(child(), child())) == 5
        assert await count() == 5


async def test_a_transaction_keeps_the_others_waiting():
    await prepare()
    order, inside = [], asyncio.Event()

    async def first():
        async with transaction.atomic():
            await insert(1)
            inside.set()
            await asyncio.sleep(0)
            order.append("first")

    async def second():
        await inside.wait()
        assert await count() == 1
        order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def test_a_rolled_back_transaction():
    await prepare()
    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await insert(1)
            raise ZeroDivisionError
    assert await asyncio.create_task(count()) == 0


async def test_a_task_that_forgets_its_transaction():
    await prepare()

    async def forget():
        await transaction.atomic().__aenter__()
        await insert(1)

    await asyncio.create_task(forget())
    async with asyncio.timeout(10):
        assert await count() == 0


async def test_guest_threads_and_bridged_code():
    await prepare()

    def add():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO numbers VALUES (1)")

    await run(add)
    await sync_to_async(add)()
    assert await count() == 2


async def test_a_cancelled_waiter_takes_nothing():
    await prepare()
    async with transaction.atomic():
        await insert(1)

    holding, release = asyncio.Event(), asyncio.Event()

    async def hold():
        async with transaction.atomic():
            await insert(2)
            holding.set()
            await release.wait()

    holder = asyncio.create_task(hold())
    await holding.wait()
    waiting = asyncio.create_task(count())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await holder
    assert await count() == 2
    assert loops.store().pools
