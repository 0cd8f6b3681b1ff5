"""R7: asynchronous generators that are left while they hold a block, and blocks left elsewhere."""

import asyncio
import contextlib
import gc

import pytest
from conftest import postgresql_only
from db.endings import in_a_cycle, in_block, names
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from testapp.models import Author

from django_aio import run

pytestmark = pytest.mark.usefixtures("db")


async def test_what_is_written_after_a_break_stays():
    async for _ in in_block("generator", "more"):
        break
    await Author.objects.acreate(name="after")
    assert await names() == ["after"]


async def test_a_block_after_a_break_is_outermost():
    async for _ in in_block("generator", "more"):
        break
    async with transaction.atomic(durable=True):
        await Author.objects.acreate(name="after")
    assert await names() == ["after"]


async def test_what_synchronous_code_writes_after_a_break_stays():
    async for _ in in_block("generator", "more"):
        break
    await run(Author.objects.create, name="after")
    assert await names() == ["after"]


async def outer(inner):
    async for name in inner:
        yield name


async def test_a_break_out_of_nested_generators():
    async for _ in outer(outer(in_block("generator", "more"))):
        break
    await Author.objects.acreate(name="after")
    assert await names() == ["after"]


async def test_a_generator_that_cleans_up_in_its_block():
    async def cleans_up():
        async with transaction.atomic():
            try:
                await Author.objects.acreate(name="generator")
                yield
            finally:
                await asyncio.sleep(0)
                await Author.objects.acreate(name="clean-up")

    await Author.objects.aexists()
    async for _ in cleans_up():
        break
    await Author.objects.acreate(name="after")
    assert await names() == ["after"]


async def test_a_savepoint_of_a_generator_that_is_left():
    async with transaction.atomic():
        await Author.objects.acreate(name="before")
        async for _ in in_block("generator", "more"):
            break
        await Author.objects.acreate(name="after")
    assert await names() == ["after", "before"]


@postgresql_only  # SQLite has one writer
async def test_a_generator_that_is_collected_in_anothers_block():
    """Its own block is rolled back, on its own connection."""
    started, collected, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def leaves():
        generator = in_block("generator", "more")
        await anext(generator)
        in_a_cycle(generator)
        del generator
        started.set()
        await collected.wait()
        # Waits its turn, for the end of what was collected.
        await Author.objects.acount()
        assert not connection.in_atomic_block
        stop.set()

    async def innocent():
        await started.wait()
        async with transaction.atomic():
            await Author.objects.acount()
            gc.collect()
            collected.set()
            await stop.wait()
            await Author.objects.acreate(name="innocent")

    gc.disable()
    try:
        await asyncio.gather(leaves(), innocent())
    finally:
        gc.enable()
    assert await names() == ["innocent"]


async def test_a_collected_generator_does_not_join_the_block_it_is_collected_in():
    done = asyncio.Event()

    async def writes_at_its_end():
        try:
            yield
        finally:
            seen.append(connection.in_atomic_block)
            done.set()

    seen = []
    await Author.objects.aexists()  # from here on the loop's generators are watched
    generator = writes_at_its_end()
    await anext(generator)
    in_a_cycle(generator)
    del generator
    async with transaction.atomic():
        await Author.objects.aexists()
        gc.collect()
        await done.wait()
    assert seen == [False]


async def test_a_generator_that_outlives_its_task():
    """The task's end has ended the block: the finaliser has nothing to do."""
    kept = []

    async def leaves():
        kept.append(in_block("generator", "more"))
        await anext(kept[0])

    await asyncio.create_task(leaves())
    async with transaction.atomic():
        await Author.objects.acreate(name="innocent")
        await kept.pop().aclose()
        await Author.objects.acreate(name="second")
    assert await names() == ["innocent", "second"]


async def test_a_generator_that_goes_on_after_its_task_does_not_commit():
    kept = []

    async def begins():
        kept.append(in_block("generator"))
        await anext(kept[0])

    await asyncio.create_task(begins())
    with pytest.raises(
        TransactionManagementError, match=r"ended without leaving it|entered by task"
    ):
        await anext(kept[0])
    assert await names() == []


async def nested():
    async with transaction.atomic():
        async for name in in_block("generator", "more"):
            yield name


@pytest.mark.parametrize("in_outer", [False, True])
async def test_nested_generators_with_a_block_each(in_outer):
    async with transaction.atomic() if in_outer else contextlib.nullcontext():
        async for _ in nested():
            break
        await Author.objects.acreate(name="after")
    assert await names() == ["after"]


@pytest.mark.parametrize("in_outer", [False, True])
async def test_tasks_that_are_started_after_a_break(in_outer):
    """They do not join what is being closed."""
    async with transaction.atomic() if in_outer else contextlib.nullcontext():
        async for _ in in_block("generator", "more"):
            break
        await asyncio.gather(*(Author.objects.acreate(name=name) for name in "ab"))
    assert await names() == ["a", "b"]


async def test_a_savepoint_whose_task_has_ended():
    """Nobody can leave it any more, and the block round it goes on."""
    kept = []

    def generator():
        with transaction.atomic():
            Author.objects.create(name="generator")
            yield

    async def begins():
        kept.append(generator())
        await run(next, kept[0])

    async with transaction.atomic():
        await asyncio.create_task(begins())
        await Author.objects.acreate(name="after")
    assert await names() == ["after"]


async def test_a_block_that_another_task_leaves_is_rolled_back():
    block = transaction.atomic()
    await block.__aenter__()
    await Author.objects.acreate(name="lost")

    async def leave():
        await block.__aexit__(None, None, None)

    with pytest.raises(TransactionManagementError, match=r"entered by task .* and left by task"):
        await asyncio.create_task(leave())
    assert not connection.in_atomic_block
    await Author.objects.acreate(name="after")
    assert await names() == ["after"]


async def test_one_atomic_object_for_many_tasks():
    block, inside = transaction.atomic(), asyncio.Barrier(2)

    async def use(name, fails):
        try:
            async with block:
                await Author.objects.acreate(name=name)
                if connection.vendor == "postgresql":  # SQLite has one writer
                    await inside.wait()
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass

    await asyncio.gather(use("a", False), use("b", True))
    assert await names() == ["a"]
