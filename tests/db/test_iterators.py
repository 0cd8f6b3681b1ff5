"""R7: iterators over rows and synchronous generators, left in the bridge or by a coroutine."""

import asyncio

import pytest
from conftest import all_returned, bridge_pool, postgresql_only, sqlite_only
from db.endings import in_new_context, names, rows
from django.db import InterfaceError, connection, transaction
from testapp.models import Author

from django_aio import hold_connection, run, wait

pytestmark = pytest.mark.usefixtures("db")


async def test_a_synchronous_generator_left_in_the_bridge():
    def generator():
        with transaction.atomic():
            Author.objects.create(name="generator")
            yield

    def leave():
        for _ in generator():
            break
        Author.objects.create(name="after")

    await run(leave)
    assert await names() == ["after"]


@pytest.mark.parametrize("leave", ["break", "close"])
async def test_a_synchronous_generator_round_an_iterator(leave):
    """Its cursor is closed before its block, and neither waits."""
    await rows()

    def generator():
        with transaction.atomic():
            Author.objects.create(name="generator")
            yield from Author.objects.order_by("pk").iterator(chunk_size=2)

    def work():
        left = generator()
        next(left)
        if leave == "close":
            left.close()
        del left
        Author.objects.create(name="after")

    await run(work)
    assert (await names())[-1] == "after"
    assert "generator" not in await names()


async def test_an_asynchronous_generator_round_a_synchronous_one():
    def generator():
        with transaction.atomic():
            Author.objects.create(name="generator")
            yield
            yield

    async def bridged():
        held = generator()
        while True:
            yield await run(next, held)

    async for _ in bridged():
        break
    await Author.objects.acreate(name="after")
    assert await names() == ["after"]


async def test_a_cancelled_loop_over_a_generator_with_a_block():
    def generator():
        with transaction.atomic():
            Author.objects.create(name="generator")
            yield

    def work():
        for _ in generator():
            entered.set()
            wait(asyncio.Event().wait())

    entered = asyncio.Event()
    async with transaction.atomic():
        task = asyncio.create_task(run(work))
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])
        await Author.objects.acreate(name="after")
    assert await names() == ["after"]


async def test_a_synchronous_generator_dropped_by_a_coroutine():
    """Nobody can wait there: the loop goes on, and the next statement waits."""

    def generator():
        with transaction.atomic():
            Author.objects.create(name="generator")
            yield

    held = [generator()]
    await run(lambda: next(held[0]))
    held.clear()
    await Author.objects.acreate(name="after")
    assert await names() == ["after"]


def leave_an_iterator():
    for author in Author.objects.order_by("pk").iterator(chunk_size=2):
        return author.name
    return None


async def test_a_synchronous_iterator_left_in_the_bridge():
    await rows()
    for _ in range(5):
        assert await run(leave_an_iterator) == "00"
    assert await Author.objects.acount() == 10


async def test_a_synchronous_iterator_dropped_by_a_coroutine():
    await rows()
    held = [Author.objects.order_by("pk").iterator(chunk_size=2)]
    await run(lambda: next(held[0]))
    held.clear()
    assert await Author.objects.acount() == 10


@pytest.mark.usefixtures("pooled")
async def test_a_dropped_iterator_returns_its_lease():
    await rows()
    held = [Author.objects.order_by("pk").iterator(chunk_size=2)]
    await run(lambda: next(held[0]))
    assert len(bridge_pool().out) == 1
    held.clear()
    await asyncio.sleep(0)
    assert bridge_pool().out == {}
    assert await open_cursors() == []


async def open_cursors():
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT name FROM pg_cursors")
        return await cursor.fetchall()


@postgresql_only
async def test_an_iterator_left_in_a_block_leaves_no_cursor():
    await rows()
    async with transaction.atomic():
        await run(leave_an_iterator)
        assert await open_cursors() == []


@postgresql_only
async def test_an_iterator_of_a_savepoint_that_was_rolled_back():
    """To close its cursor would be an error, and that the end of the transaction."""
    await rows()
    async with transaction.atomic():
        held = []
        with pytest.raises(ZeroDivisionError):
            async with transaction.atomic():
                held.append(Author.objects.order_by("pk").iterator(chunk_size=2))
                await run(lambda: next(held[0]))
                raise ZeroDivisionError
        held.clear()
        await Author.objects.acreate(name="after")
    assert (await names())[-1] == "after"


async def test_an_asynchronous_iterator_of_a_savepoint_that_was_rolled_back():
    """Its finaliser runs while the savepoint is being rolled back."""
    await rows()
    async with transaction.atomic():
        with pytest.raises(ZeroDivisionError):
            async with transaction.atomic():
                async for _ in Author.objects.order_by("pk").aiterator(chunk_size=2):
                    raise ZeroDivisionError
        await Author.objects.acreate(name="after")
    assert (await names())[-1] == "after"


@sqlite_only
async def test_unread_rows_do_not_keep_the_lock_of_an_ended_task():
    await rows()
    kept = []

    def generator():
        with transaction.atomic():
            Author.objects.create(name="generator")
            yield from Author.objects.order_by("pk").iterator(chunk_size=2)

    async def begins():
        kept.append(generator())
        await run(next, kept[0])

    await asyncio.create_task(begins())
    async with asyncio.timeout(5):
        await Author.objects.acreate(name="zz")
    assert (await names())[-1] == "zz"


@postgresql_only
async def test_rows_are_refused_after_the_chains_end():
    await rows()

    async def begin():
        found = Author.objects.order_by("pk").aiterator(chunk_size=2)
        assert (await anext(found)).name == "00"
        assert (await anext(found)).name == "01"
        return found

    found = await asyncio.create_task(begin())
    await asyncio.sleep(0)
    with pytest.raises(InterfaceError, match="no longer there"):
        await anext(found)


@postgresql_only
async def test_rows_of_a_server_side_cursor_take_their_turn():
    """A fetch in the block waits for a savepoint that another task has open."""
    await rows()
    order = []
    async with transaction.atomic():
        found = Author.objects.order_by("pk").aiterator(chunk_size=2)
        await anext(found)
        await anext(found)
        inside, finish = asyncio.Event(), asyncio.Event()

        async def savepoint():
            async with transaction.atomic():
                await Author.objects.aexists()
                inside.set()
                await finish.wait()
                order.append("savepoint")

        async def fetch():
            await inside.wait()
            asyncio.get_running_loop().call_soon(finish.set)
            await anext(found)
            order.append("rows")

        await asyncio.gather(savepoint(), fetch())
    assert order == ["savepoint", "rows"]


async def test_a_hold_that_ends_in_another_task():
    """The chain that held it has ended: nothing is returned that somebody else has by now."""
    kept = []

    async def holds():
        kept.append(hold_connection())
        await kept[0].__aenter__()

    await asyncio.create_task(holds())
    await Author.objects.acreate(name="a")
    async with transaction.atomic():
        await kept[0].__aexit__(None, None, None)
        await Author.objects.acreate(name="b")
    assert await names() == ["a", "b"]


@postgresql_only
async def test_an_iterator_whose_connection_was_closed_under_it(pooled, monkeypatch):
    """It is left when the pool has reset the connection: the next iterator reads its rows."""
    options = {"pool": {"min_size": 1, "max_size": 1}}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    await rows()

    async def leave():
        async with hold_connection():
            iterator = aiter(Author.objects.aiterator(chunk_size=2))
            await anext(iterator)
            await run(connection.close)
            return iterator

    async def read():
        async with hold_connection():
            return [author async for author in Author.objects.aiterator(chunk_size=2)]

    iterator = await in_new_context(leave())
    await all_returned()
    await iterator.aclose()
    assert len(await in_new_context(read())) == await Author.objects.acount()
