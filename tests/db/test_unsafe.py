"""`DJANGO_ALLOW_ASYNC_UNSAFE`: synchronous ORM code in a coroutine, as in a notebook's cells."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from conftest import all_returned
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction
from testapp.models import Author

from django_aio import loops, wait

pytestmark = pytest.mark.usefixtures("db", "allowed")


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


def make(name):
    Author.objects.create(name=name, born=1)
    return Author.objects.count()


async def cells():
    """What is used in turn, in one task."""
    yield make("a"), 1
    await Author.objects.acreate(name="b", born=1)
    yield Author.objects.count(), 2
    with transaction.atomic():
        Author.objects.create(name="c", born=1)
        yield await Author.objects.acount(), 3
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.create(name="d", born=1)
        1 / 0  # noqa: B018 - leaves the block
    yield len(list(Author.objects.iterator())), 3
    yield await sync_to_async(Author.objects.count)(), 3
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM testapp_author")
        yield cursor.fetchone()[0], 3
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT count(*) FROM testapp_author")
        yield (await cursor.fetchone())[0], 3
    [author] = Author.objects.raw("SELECT * FROM testapp_author WHERE name = 'a'")
    yield author.name, "a"


async def test_in_one_task():
    async for found, wanted in cells():
        assert found == wanted


async def test_with_a_pool(pooled):
    """The loop's pool cannot be waited for. Nothing stays behind."""
    async for found, wanted in cells():
        assert found == wanted
    await all_returned()
    await asyncio.sleep(0)
    assert all(not each.out for each in loops.store().pools.values())


async def test_in_many_tasks_one_after_another():
    for number in range(1, 4):
        assert await asyncio.create_task(asyncio.to_thread(make, f"t{number}")) == 2 * number - 1

        async def cell(number=number):
            return make(f"c{number}")

        assert await asyncio.create_task(cell()) == 2 * number


async def test_in_a_callback_of_the_loop():
    done = asyncio.get_running_loop().create_future()

    def callback():
        done.set_result(make("callback"))
        connection.close()  # it is the callback's own, as in stock Django

    asyncio.get_running_loop().call_soon(callback)
    assert await done == 1


async def test_where_tasks_share_a_connection_nobody_waits_for_ever():
    """It is an error to need the turn of another task: the loop would stop, and that task too."""

    async def cell():
        await Author.objects.acreate(name="a", born=1)
        return Author.objects.count()

    with pytest.raises(SynchronousOnlyOperation, match="'await run"):
        async with transaction.atomic():
            await asyncio.gather(cell(), cell())
    assert await Author.objects.acount() == 0
    assert make("b") == 1


async def test_a_block_that_cannot_wait_for_its_end_is_rolled_back():
    started = asyncio.Event()

    async def cell():
        with connection.execute_wrapper(waits):
            await Author.objects.acount()

    def waits(execute, *statement):
        started.set()
        wait(asyncio.Event().wait())

    with pytest.raises(SynchronousOnlyOperation), transaction.atomic():
        Author.objects.create(name="a", born=1)
        task = asyncio.create_task(cell())
        await started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await asyncio.create_task(Author.objects.acount()) == 0


async def test_elsewhere_it_is_refused(monkeypatch):
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")
    with pytest.raises(SynchronousOnlyOperation, match="await the a-prefixed method"):
        make("a")
    with pytest.raises(SynchronousOnlyOperation), connection.cursor():
        pass
