"""`async with transaction.atomic()` and `@transaction.atomic` on coroutine functions."""

import asyncio

import pytest
from django.db import IntegrityError, connection, transaction
from suspensions import cancelled_at
from testapp.models import Author

from django_aio import run

pytestmark = pytest.mark.usefixtures("db")


async def names():
    return [name async for name in Author.objects.order_by("name").values_list("name", flat=True)]


async def test_commit():
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
        assert connection.in_atomic_block
    assert not connection.in_atomic_block
    assert await asyncio.create_task(names()) == ["a"]


async def test_rollback():
    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await Author.objects.acreate(name="a")
            raise ZeroDivisionError
    assert await names() == []


async def test_a_task_started_outside_does_not_see_it():
    written, looked = asyncio.Event(), asyncio.Event()

    async def outside():
        await written.wait()
        found = await names()
        looked.set()
        return found

    task = asyncio.create_task(outside())
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
        written.set()
        await looked.wait()
    assert await task == []


async def test_savepoints():
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
        with pytest.raises(IntegrityError):
            async with transaction.atomic():
                await Author.objects.acreate(name="b")
                await Author.objects.acreate(name="a")
        async with transaction.atomic():
            await Author.objects.acreate(name="c")
    assert await names() == ["a", "c"]


async def test_without_savepoint_the_outer_block_rolls_back():
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
        with pytest.raises(ZeroDivisionError):
            async with transaction.atomic(savepoint=False):
                raise ZeroDivisionError
        assert await run(transaction.get_rollback)
    assert await names() == []


async def test_durable():
    async with transaction.atomic(durable=True):
        await Author.objects.acreate(name="a")
        with pytest.raises(RuntimeError, match="durable"):
            async with transaction.atomic(durable=True):
                pass
    assert await names() == ["a"]


async def test_set_rollback():
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
        transaction.set_rollback(True)
    assert await names() == []


async def test_on_commit():
    called = []
    async with transaction.atomic():
        transaction.on_commit(lambda: called.append("committed"))
        await Author.objects.acreate(name="a")
        assert not called
    assert called == ["committed"]


async def test_mixes_with_bridged_synchronous_blocks():
    def write():
        with transaction.atomic():
            Author.objects.create(name="inner")

    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await run(write)
            raise ZeroDivisionError
    assert await names() == []
    await run(write)
    assert await names() == ["inner"]


async def test_decorated_coroutine_function():
    @transaction.atomic
    async def write(name, fail):
        """Its doc."""
        assert connection.in_atomic_block
        await Author.objects.acreate(name=name)
        if fail:
            raise ZeroDivisionError
        return name

    assert write.__doc__ == "Its doc."
    assert await write("a", fail=False) == "a"
    with pytest.raises(ZeroDivisionError):
        await write("b", fail=True)
    assert await asyncio.gather(write("c", False), write("d", False)) == ["c", "d"]
    assert await names() == ["a", "c", "d"]


async def test_decorated_with_arguments():
    @transaction.atomic(durable=True)
    async def write():
        await Author.objects.acreate(name="a")

    await write()
    async with transaction.atomic():
        with pytest.raises(RuntimeError, match="durable"):
            await write()
    assert await names() == ["a"]


def test_decorated_function_is_as_before():
    @transaction.atomic
    def write():
        Author.objects.create(name="a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert not Author.objects.exists()


def test_async_generators_are_refused():
    with pytest.raises(TypeError, match=r"rows.*async with transaction.atomic"):

        @transaction.atomic
        async def rows():
            yield 1


async def test_cancelled_in_the_block():
    entered = asyncio.Event()

    async def work():
        async with transaction.atomic():
            await Author.objects.acreate(name="a")
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names() == []


async def test_a_task_that_ends_in_a_transaction_it_never_left():
    """R5: entered by hand and forgotten, the transaction ends with its task."""

    async def forget():
        await transaction.atomic().__aenter__()
        await Author.objects.acreate(name="a")

    await asyncio.create_task(forget())
    assert await names() == []
    await Author.objects.acreate(name="a")  # no lock is left behind


@pytest.mark.parametrize("statement", range(1, 12))
async def test_cancelled_anywhere(statement):
    """Cancel at the n-th suspension: nothing or everything is committed, and all works after."""

    async def work():
        async with transaction.atomic():
            await Author.objects.acreate(name="a")
            async with transaction.atomic():
                await Author.objects.acreate(name="b")

    await names()
    await cancelled_at(work, statement)
    assert await names() in ([], ["a", "b"])
    async with transaction.atomic():
        await Author.objects.acreate(name="c")
    assert "c" in await names()
