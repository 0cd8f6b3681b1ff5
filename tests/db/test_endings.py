"""R7: what ends later acts on what it was given, in whichever task, thread or moment it ends."""

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
import time

import psycopg
import pytest
from asgiref.sync import sync_to_async
from conftest import bridge_pool, out_of_the_pool, postgresql_only, sqlite_only
from django.db import InterfaceError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from testapp.models import Author

from django_aio import hold_connection, run, wait
from django_aio.db import chains, pool

pytestmark = pytest.mark.usefixtures("db")


async def names():
    """What is committed, as another task sees it."""
    found = Author.objects.order_by("name").values_list("name", flat=True)
    return await asyncio.create_task(as_list(found), context=contextvars.Context())


async def as_list(found):
    return [each async for each in found]


async def in_block(*wanted):
    async with transaction.atomic():
        for name in wanted:
            await Author.objects.acreate(name=name)
            yield name


class Node:
    """Something in a cycle."""


def in_a_cycle(thing):
    node = Node()
    node.me, node.thing = node, thing


# Asynchronous generators


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
        # Waits, at the gate, for the end of what was collected.
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


# Synchronous generators and iterators


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


async def rows(number=10):
    await Author.objects.abulk_create([Author(name=f"{n:02}") for n in range(number)])


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


# Hooks


async def test_a_hook_that_gathers_is_outside():
    async def hook():
        await asyncio.gather(
            *(Author.objects.acreate(name=f"hook {number}") for number in range(2))
        )

    async with transaction.atomic():
        await Author.objects.acreate(name="first")
        transaction.on_commit(hook)
    assert await names() == ["first", "hook 0", "hook 1"]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_hook_that_raises_leaves_the_chain_usable(error):
    async def hook():
        raise error

    with pytest.raises(error):
        async with transaction.atomic():
            await Author.objects.acreate(name="first")
            transaction.on_commit(hook)
    assert not connection.in_atomic_block
    await Author.objects.acreate(name="second")
    assert await names() == ["first", "second"]


async def test_a_hook_can_be_cancelled():
    entered = asyncio.Event()

    async def hook():
        entered.set()
        await asyncio.Event().wait()

    async def block():
        async with transaction.atomic():
            await Author.objects.acreate(name="first")
            transaction.on_commit(hook)

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names() == ["first"]


@pytest.mark.usefixtures("pooled")
async def test_a_hook_has_given_the_connection_back():
    async def hook():
        assert await out_of_the_pool() == set()

    async with transaction.atomic():
        await Author.objects.acreate(name="first")
        transaction.on_commit(hook)


# Loops, threads and processes


def of_a_loop(work):
    """Run a coroutine function on a loop that is closed by hand, with its tasks pending."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()


async def begin_and_wait(started):
    async with transaction.atomic():
        await Author.objects.acreate(name="never")
        started.set()
        await asyncio.Event().wait()


def sessions():
    """The sessions of this database on the server, but for the one that asks."""
    if connection.vendor != "postgresql":
        return 0
    parameters = connection.get_connection_params()
    parameters.pop("cursor_factory")
    with psycopg.connect(**parameters) as asking:
        found = asking.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return found.fetchone()[0]


def settled(what, wanted, seconds=5.0):
    end = time.monotonic() + seconds
    while (found := what()) != wanted and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::ResourceWarning")
@pytest.mark.parametrize("pool_options", [False, True])
def test_a_loop_closed_by_hand_leaves_nothing(request, pool_options):
    if pool_options:
        request.getfixturevalue("pooled")

    async def work():
        started = asyncio.Event()
        tasks.append(asyncio.create_task(begin_and_wait(started)))
        await started.wait()

    threads = threading.active_count()
    for _ in range(3):
        tasks = []
        of_a_loop(work)
        tasks[0]._log_destroy_pending = False
    tasks.clear()
    gc.collect()
    assert settled(sessions, 0) == 0
    assert settled(threading.active_count, threads) == threads
    assert not chains._tasks
    assert not Author.objects.exists()


def test_many_loops_leave_nothing():
    async def work():
        await asyncio.gather(*(Author.objects.acount() for _ in range(2)))

    def objects():
        gc.collect()
        return len(gc.get_objects())

    threads, stores = threading.active_count(), len(pool._stores)
    for number in range(60):
        asyncio.run(work())
        if number == 20:
            before = objects()
    assert objects() < before * 1.02
    assert settled(sessions, 0) == 0
    assert settled(threading.active_count, threads) == threads
    assert len(pool._stores) <= stores + 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
@pytest.mark.parametrize("pool_options", [False, True])
def test_eager_tasks(request, pool_options):
    if pool_options:
        request.getfixturevalue("pooled")

    async def work():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with asyncio.timeout(20):
            for _ in range(3):
                counts = await asyncio.gather(*(Author.objects.acount() for _ in range(10)))
                assert counts == [0] * 10
            async with transaction.atomic():
                await asyncio.gather(*(Author.objects.acreate(name=str(n)) for n in range(3)))
            assert await Author.objects.acount() == 3

    asyncio.run(work())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_the_child_of_a_fork_has_no_transaction():
    reading, writing = os.pipe()

    def child():
        """In the child, where no loop runs: its own connection, outside any transaction."""
        answer = b"wrong"
        try:
            inside = connection.in_atomic_block
            found = Author.objects.count()
            answer = f"{inside} {found}".encode()
        finally:
            os.write(writing, answer)
            os._exit(0)

    async with transaction.atomic():
        await Author.objects.acreate(name="parent")
        process = os.fork()
        if process == 0:
            child()
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 100) == b"False 0"
        os.close(reading)
        await asyncio.to_thread(os.waitpid, process, 0)
        await Author.objects.acreate(name="still")
    assert await names() == ["parent", "still"]


async def test_a_store_closes_the_rest_if_something_cannot_be_closed(caplog):
    class Broken:
        async def aclose(self):
            raise ZeroDivisionError

    class Fine:
        closed = False

        async def aclose(self):
            self.closed = True

    fine = Fine()
    pool.store().pools.update(broken=Broken(), fine=fine)
    await pool.close_store()
    assert fine.closed
    assert "'broken' could not be closed" in caplog.text


async def test_connections_of_guests_are_kept_and_closed(monkeypatch):
    """A guest's thread made it, and the loop closes it."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)

    async def use():
        await sync_to_async(Author.objects.count, thread_sensitive=False)()
        await Author.objects.acount()

    await Author.objects.aexists()
    await asyncio.create_task(use())
    await asyncio.sleep(0)
    assert pool.store().idle["default"]
    await pool.close_store()
    assert not pool.store().idle
    await run(connection.close)
    assert await asyncio.to_thread(settled, sessions, 0) == 0
