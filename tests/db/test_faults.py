"""R5: cancelled at every await, connections killed, thousands of tasks: nothing is left behind."""

import asyncio
import contextlib
import gc
import random
import sys

import psycopg
import pytest
from asgiref.sync import sync_to_async
from conftest import postgresql_only
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models import F
from suspensions import cancelled_at
from testapp.models import Author, Book

from django_aio import loops, run
from django_aio.db import chains

pytestmark = pytest.mark.usefixtures("db")

# A pool's worker says this to a connection that it makes in place of one that was broken.
SETTING_UP = "SELECT set_config('TimeZone', 'UTC', false)"


async def book():
    return await Book.objects.acreate(title="t", author=await Author.objects.acreate(name="x"))


async def iterate():
    return [author async for author in Author.objects.order_by("pk")]


async def stream():
    return [author async for author in Author.objects.order_by("pk").aiterator(chunk_size=2)]


async def transact():
    async with transaction.atomic():
        await Author.objects.acreate(name="y")
        async with transaction.atomic():
            await Author.objects.filter(name="y").aupdate(born=F("born") + 1)


async def cursor():
    async with connection.cursor() as opened:
        await opened.execute("SELECT name FROM testapp_author ORDER BY id")
        await opened.fetchone()
        return await opened.fetchall()


async def prefetch():
    return [b async for b in Book.objects.select_related("author").prefetch_related("readers")]


async def join():
    async with transaction.atomic(), asyncio.TaskGroup() as group:
        group.create_task(transact())
        group.create_task(iterate())


async def generate():
    async with transaction.atomic():
        await Author.objects.acreate(name="generator")
        yield
        yield


async def leave_generator():
    async for _ in generate():
        break
    await Author.objects.acreate(name="after")


async def leave_iterator():
    async for _ in Author.objects.order_by("pk").aiterator(chunk_size=2):
        break
    await Author.objects.aexists()


async def guest():
    async with transaction.atomic():
        await sync_to_async(Author.objects.create, thread_sensitive=False)(name="guest")
        await Author.objects.aexists()


OPERATIONS = {
    "acreate": book,
    "async for": iterate,
    "aiterator": stream,
    "atomic": transact,
    "cursor": cursor,
    "prefetch": prefetch,
    "joined tasks": join,
    "aget_or_create": lambda: Author.objects.aget_or_create(name="z"),
    "aupdate_or_create": lambda: Author.objects.aupdate_or_create(name="a1", defaults={"born": 2}),
    "abulk_create": lambda: Author.objects.abulk_create([Author(name="b1"), Author(name="b2")]),
    "adelete": lambda: Author.objects.all().adelete(),
    "acount": lambda: Author.objects.acount(),
    "left generator": leave_generator,
    "left iterator": leave_iterator,
    "guest": guest,
    "bridged": lambda: run(Author.objects.create, name="sync"),
}


async def nothing_is_left():
    """No connection is out, no transaction open, and the next statement works."""
    await asyncio.sleep(0)
    await asyncio.gather(*loops.store().tasks)
    for each in loops.store().pools.values():
        assert each.out == {}
    assert set(chains.tasks) <= {asyncio.current_task()}
    assert await Author.objects.acount() >= 0
    await Author.objects.acreate(name="afterwards")
    await Author.objects.filter(name="afterwards").adelete()
    if connection.vendor == "postgresql":
        async with connection.cursor() as opened:
            await opened.execute(
                "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND state <> 'idle' AND query <> %s",
                [SETTING_UP],
            )
            assert await opened.fetchall() == []
        await run(connection.close)


async def prepare():
    await Author.objects.all().adelete()
    await Author.objects.abulk_create([Author(name=f"a{n}") for n in range(6)])
    await run(connection.close)


async def cancel_everywhere(operation, again=()):
    """Cancel at the first suspension, then at the second, until the operation ends before that.

    And again as many suspensions later as `again` says.
    """
    for n in range(1, 200):
        await prepare()
        if not await cancelled_at(operation, n, again=[n + later for later in again]):
            return n
        await nothing_is_left()
    raise AssertionError("the operation never ends")


@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_at_every_await(name):
    assert await cancel_everywhere(OPERATIONS[name]) > 1


@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_at_every_await_with_a_pool(pooled, name):
    assert await cancel_everywhere(OPERATIONS[name]) > 1


# Twice in a row, once more in the clean-up, and as anyio's scopes do: at every suspension.
AGAIN = {"twice": [1], "later": [3], "always": range(1, 500)}


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_again(name, again):
    assert await cancel_everywhere(OPERATIONS[name], AGAIN[again]) > 1


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_again_with_a_pool(pooled, name, again):
    assert await cancel_everywhere(OPERATIONS[name], AGAIN[again]) > 1


async def bridged_transaction():
    def work():
        with transaction.atomic():
            Author.objects.create(name="y")

    await run(work)


async def outlive(operation):
    """Cancelled at each suspension in turn, the task goes on, as after `asyncio.timeout()`."""
    outlived = 0

    async def go_on():
        nonlocal outlived
        try:
            await operation()
        except asyncio.CancelledError:
            outlived += 1
            await Author.objects.acreate(name="kept")

    for n in range(1, 200):
        await prepare()
        await cancelled_at(go_on, n)
        if outlived < n:
            return n
        # In a task of its own: it sees what is committed.
        assert await asyncio.create_task(Author.objects.filter(name="kept").acount()) == 1
        await nothing_is_left()
    raise AssertionError("the operation never ends")


@pytest.fixture
def _busy(monkeypatch):
    """A psycopg connection lets the loop go on wherever it may, even if it does not wait."""
    if connection.vendor == "postgresql":
        monkeypatch.setattr("django_aio.db.backends.postgresql.waiting.MAX_BUSY_TIME", -1)


@pytest.mark.usefixtures("_busy")
@pytest.mark.parametrize("operation", [transact, bridged_transaction])
async def test_a_task_that_outlives_a_cancellation_writes_for_good(operation):
    assert await outlive(operation) > 1


@pytest.mark.usefixtures("pooled", "_busy")
@pytest.mark.parametrize("operation", [transact, bridged_transaction])
async def test_a_task_that_outlives_a_cancellation_writes_for_good_with_a_pool(operation):
    assert await outlive(operation) > 1


@postgresql_only
@pytest.mark.parametrize("name", OPERATIONS)
async def test_killed_at_every_await(pooled, name):
    """The server ends the connection, at each suspension in turn."""

    async def kill():
        async with connection.cursor() as opened:
            await opened.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await run(connection.close)

    for n in range(1, 60):
        await prepare_again()
        with contextlib.suppress(DatabaseError, InterfaceError, psycopg.Error, ExceptionGroup):
            if not await cancelled_at(OPERATIONS[name], n, instead=kill):
                break
        await settle()


async def prepare_again():
    """After a kill the pool may hold dead connections, which it replaces when they are tried."""
    for _ in range(20):
        with contextlib.suppress(OperationalError):
            return await prepare()
        await run(connection.close)
    raise AssertionError("the pool does not recover")


async def settle():
    await asyncio.sleep(0)
    await asyncio.gather(*loops.store().tasks, return_exceptions=True)
    for each in loops.store().pools.values():
        assert each.out == {}


async def cancel_all(tasks):
    """Cancel tasks and wait for them.

    Once, but for Python 3.11: its asyncio.wait_for(), which psycopg_pool waits with, swallows a
    cancellation that comes in the same step as the connection.
    """
    pending = set(tasks)
    for _ in range(1 if sys.version_info >= (3, 12) else 10):
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=5)
        if not pending:
            return
    assert not pending


async def test_ten_thousand_tasks(pooled, monkeypatch):
    """Tasks that query and end, fail or are cancelled at random; memory does not grow."""
    chance = random.Random(1)
    # Hundreds wait for four connections, however slow the machine is.
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"]["pool"], "timeout", 60)

    def objects():
        return len(gc.get_objects()) + gc.get_freeze_count()

    async def work(kind):
        if kind == "fails":
            async with transaction.atomic():
                await Author.objects.acount()
                raise ZeroDivisionError
        if kind == "commits":
            async with transaction.atomic():
                await Author.objects.acount()
            return
        await Author.objects.afirst()
        if kind == "waits":
            await asyncio.Event().wait()

    async def batch(size):
        kinds = chance.choices(["fails", "commits", "queries", "waits"], k=size)
        tasks = [asyncio.create_task(work(kind)) for kind in kinds]
        for _ in range(chance.randrange(200)):
            await asyncio.sleep(0)
        for task in chance.sample(tasks, size // 5):
            task.cancel()
        await asyncio.wait([t for t, kind in zip(tasks, kinds, strict=True) if kind != "waits"])
        await cancel_all(tasks)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        expected = (ZeroDivisionError, asyncio.CancelledError, type(None))
        assert {type(r) for r in results} <= set(expected)

    before = tasks = 0
    for number in range(20):
        await batch(500)
        await nothing_is_left()
        gc.collect()
        if number == 4:
            before, tasks = objects(), len(asyncio.all_tasks())
    assert objects() < before * 1.05
    assert len(asyncio.all_tasks()) == tasks  # this one, and those of the pool
