"""R3: a task or thread that starts inside a transaction joins it, and takes turns."""

import asyncio
import concurrent.futures
import itertools
import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from conftest import postgresql_only
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from testapp.models import Author

from django_aio import run

pytestmark = pytest.mark.usefixtures("db")


async def names():
    return [name async for name in Author.objects.order_by("name").values_list("name", flat=True)]


def sync_names():
    return list(Author.objects.order_by("name").values_list("name", flat=True))


async def test_a_task_joins():
    async with transaction.atomic():
        own = connections["default"]
        await Author.objects.acreate(name="a")

        async def join():
            assert connections["default"] is own
            await Author.objects.acreate(name="b")
            return await names()

        assert await asyncio.create_task(join()) == ["a", "b"]
        transaction.set_rollback(True)
    assert await names() == []


async def test_gather_inside_a_transaction():
    async with transaction.atomic():
        await asyncio.gather(*(Author.objects.acreate(name=str(n)) for n in range(20)))
    assert len(await names()) == 20


async def test_a_thread_that_inherits_the_context_joins():
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
        assert await asyncio.to_thread(sync_names) == ["a"]


async def test_a_thread_outside_a_transaction_does_not_join():
    def look():
        try:
            return connections["default"]
        finally:
            connections.close_all()

    own = connections["default"]
    assert await asyncio.to_thread(look) is not own


async def test_a_task_that_outlives_the_block():
    release = asyncio.Event()

    async def outlive():
        await Author.objects.acreate(name="joined")
        await release.wait()
        await Author.objects.acreate(name="too late")

    async with transaction.atomic():
        task = asyncio.create_task(outlive())
        while not await Author.objects.aexists():
            pass
    release.set()
    with pytest.raises(TransactionManagementError, match=r"has ended.*TaskGroup"):
        await task
    assert await names() == ["joined"]


async def test_a_task_that_did_not_use_the_transaction_has_its_own_connection():
    release = asyncio.Event()

    async def later():
        await release.wait()
        await Author.objects.acreate(name="own")

    async with transaction.atomic():
        task = asyncio.create_task(later())
        await Author.objects.acreate(name="a")
    release.set()
    await task
    assert await names() == ["a", "own"]


async def test_savepoints_of_two_tasks_do_not_interleave():
    """The second task may open its savepoint only when the first has closed its own."""
    order, inside = [], asyncio.Event()

    async def one():
        async with transaction.atomic():
            order.append("one in")
            inside.set()
            await Author.objects.acreate(name="one")
            await asyncio.sleep(0)
            order.append("one out")

    async def two():
        await inside.wait()
        async with transaction.atomic():
            order.append("two in")
            await Author.objects.acreate(name="two")
            order.append("two out")

    async with transaction.atomic():
        await asyncio.gather(one(), two())
    assert order == ["one in", "one out", "two in", "two out"]


async def test_one_rolls_back_and_the_other_does_not():
    async def work(name, fail):
        async with transaction.atomic():
            await Author.objects.acreate(name=name)
            if fail:
                raise ZeroDivisionError

    async with transaction.atomic():
        results = await asyncio.gather(
            *(work(str(n), n % 2) for n in range(10)), return_exceptions=True
        )
    assert [type(r) for r in results] == [type(None), ZeroDivisionError] * 5
    assert await names() == ["0", "2", "4", "6", "8"]


async def test_synchronous_blocks_take_turns_too():
    def work(name):
        with transaction.atomic():
            Author.objects.create(name=name)

    async with transaction.atomic():
        await asyncio.gather(*(run(work, str(n)) for n in range(5)))
        await asyncio.gather(*(asyncio.to_thread(work, str(n)) for n in range(5, 8)))
    assert len(await names()) == 8


# A program is a tree of blocks: each writes its own name, and fails after its children or not.
PROGRAM = st.recursive(
    st.tuples(st.booleans(), st.just(())),
    lambda children: st.tuples(st.booleans(), st.lists(children, max_size=3).map(tuple)),
    max_leaves=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs=st.tuples(PROGRAM, PROGRAM), pauses=st.lists(st.integers(0, 3), min_size=20))
def test_nested_savepoints_in_any_order(programs, pauses):
    """What two tasks with nested savepoints leave is what each would have left alone."""
    pause = iter(pauses * 20)

    async def execute(program, path):
        fails, children = program
        try:
            async with transaction.atomic():
                await Author.objects.acreate(name=path)
                for number, child in enumerate(children):
                    for _ in range(next(pause)):
                        await asyncio.sleep(0)
                    await execute(child, f"{path}.{number}")
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass

    def expected(program, path):
        fails, children = program
        if fails:
            return []
        below = [expected(child, f"{path}.{number}") for number, child in enumerate(children)]
        return [path, *itertools.chain.from_iterable(below)]

    async def main():
        await Author.objects.all().adelete()
        async with transaction.atomic():
            await asyncio.gather(execute(programs[0], "a"), execute(programs[1], "b"))
        return await names()

    assert asyncio.run(main()) == sorted(expected(programs[0], "a") + expected(programs[1], "b"))


async def test_a_cancelled_block_with_an_open_one_further_in():
    """The outer block ends although a joined task is further in: everything is rolled back."""
    inside = asyncio.Event()

    async def inner():
        async with transaction.atomic():
            await Author.objects.acreate(name="inner")
            inside.set()
            await asyncio.Event().wait()

    async def outer():
        async with transaction.atomic():
            await Author.objects.acreate(name="outer")
            started.append(asyncio.create_task(inner()))
            await inside.wait()

    started = []
    task = asyncio.create_task(outer())
    await inside.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started[0].cancel()
    with pytest.raises((asyncio.CancelledError, TransactionManagementError)):
        await started[0]
    assert await names() == []


async def test_on_commit_with_coroutine_functions():
    called = []

    async def note():
        called.append(await names())

    async with transaction.atomic():
        transaction.on_commit(note)
        await transaction.aon_commit(note)
        await Author.objects.acreate(name="a")
        assert called == []
    assert called == [["a"], ["a"]]
    await transaction.aon_commit(note)
    assert len(called) == 3


async def test_robust_on_commit(caplog):
    called = []

    async def fail():
        raise ZeroDivisionError

    async def note():
        called.append(1)

    async with transaction.atomic():
        await transaction.aon_commit(fail, robust=True)
        await transaction.aon_commit(note)
    assert called == [1]
    assert "Error calling" in caplog.text


def test_on_commit_with_a_coroutine_function_in_synchronous_code():
    called = []

    async def note():
        called.append(threading.current_thread() is threading.main_thread())

    with transaction.atomic():
        transaction.on_commit(note)
    assert called == [False]


async def test_select_for_update():
    await Author.objects.acreate(name="a")
    async with transaction.atomic():
        author = await Author.objects.select_for_update().aget(name="a")
        author.born = 1
        await author.asave()
    with pytest.raises(TransactionManagementError):
        if connection.features.has_select_for_update:
            await Author.objects.select_for_update().aget(name="a")
        else:
            raise TransactionManagementError


@pytest.fixture
def other(monkeypatch):
    """The same database under another alias."""
    monkeypatch.setitem(connections.settings, "other", connections.settings["default"])
    return "other"


async def test_a_task_that_begins_with_another_database_joins(other):
    """It has a chain of its own by then."""

    async def join():
        await Author.objects.using(other).acount()
        await Author.objects.acreate(name="joined")

    async with transaction.atomic():
        await Author.objects.acreate(name="first")
        await asyncio.create_task(join())
        transaction.set_rollback(True)
    assert await names() == []


async def test_a_guest_thread_of_such_a_task_joins(other):
    async def join():
        await Author.objects.using(other).acount()
        await sync_to_async(Author.objects.create)(name="joined")

    async with transaction.atomic():
        await Author.objects.acreate(name="first")
        await asyncio.create_task(join())
        transaction.set_rollback(True)
    assert await names() == []


async def test_one_thread_in_one_transaction_after_another():
    """An executor's thread does not stay with the first that it was in, open or ended."""
    executor = concurrent.futures.ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    for number in range(2):
        async with transaction.atomic():
            await Author.objects.acreate(name=str(number))
            assert len(await asyncio.to_thread(sync_names)) == number + 1


@postgresql_only  # two transactions that write
async def test_one_thread_in_two_transactions_at_the_same_time():
    executor = concurrent.futures.ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    turn = asyncio.Barrier(2)

    async def look(name):
        async with transaction.atomic():
            await Author.objects.acreate(name=name)
            await turn.wait()
            found = await asyncio.to_thread(sync_names)
            await turn.wait()
        return found

    assert await asyncio.gather(look("a"), look("b")) == [["a"], ["b"]]


def bump(fails):
    with transaction.atomic():
        author = Author.objects.get(name="counted")
        author.born += 1
        author.save()
        if fails:
            raise LookupError


async def abump(fails):
    async with transaction.atomic():
        author = await Author.objects.aget(name="counted")
        await asyncio.sleep(0)
        author.born += 1
        await author.asave()
        if fails:
            raise LookupError


def test_blocks_of_both_colours_in_a_transaction_of_a_thread():
    """Coroutines, and synchronous functions that asgiref runs in the thread that waits: in turn."""

    async def both():
        jobs = [
            job for n in range(6) for job in (abump(n % 3 == 2), sync_to_async(bump)(n % 3 == 2))
        ]
        return await asyncio.gather(*jobs, return_exceptions=True)

    for _ in range(3):
        Author.objects.update_or_create(name="counted", defaults={"born": 0})
        with transaction.atomic():
            found = async_to_sync(both)()
        assert [type(each) for each in found].count(LookupError) == 4
        assert [each for each in found if not isinstance(each, LookupError | None)] == []
        assert Author.objects.get(name="counted").born == 8
