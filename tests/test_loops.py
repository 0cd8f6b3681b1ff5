"""Loops that end in any way, eager tasks and forks: no session, thread or object stays."""

import asyncio
import contextvars
import gc
import os
import sys
import threading
import time
import weakref

import psycopg
import pytest
from asgiref.sync import sync_to_async
from conftest import sqlite_only
from db.endings import names
from django.db import connection, connections, transaction
from testapp.models import Author

from django_aio import loops, run
from django_aio.db import chains, idle

pytestmark = pytest.mark.usefixtures("db")


def of_a_loop(work):
    """Run a coroutine function on a loop that is closed by hand, with its tasks pending."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()
    return weakref.ref(loop)


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

    connections.close_all()
    threads = threading.active_count()
    loops = []
    for _ in range(3):
        tasks = []
        loops.append(of_a_loop(work))
        tasks[0]._log_destroy_pending = False
    tasks.clear()
    gc.collect()
    assert settled(sessions, 0) == 0
    assert settled(threading.active_count, threads) == threads
    assert not chains.tasks
    gc.collect()  # what the threads had until they ended
    assert [loop() for loop in loops] == [None] * 3
    assert not Author.objects.exists()


@pytest.mark.parametrize("passes", [1, 2, 3, 5])
@pytest.mark.parametrize("in_block", [False, True])
def test_a_loop_that_ends_while_a_task_connects(in_block, passes):
    """It waits for what the task's end does, and not for what will never be done."""

    async def connect():
        if in_block:
            async with transaction.atomic():
                await Author.objects.acreate(name="a")
        else:
            await Author.objects.acount()

    async def leave():
        task = asyncio.create_task(connect())
        for _ in range(passes):
            await asyncio.sleep(0)
        return task

    connections.close_all()
    threads = threading.active_count()
    began = time.monotonic()
    asyncio.run(leave())
    assert time.monotonic() - began < 4  # of the five that it would wait for a thread
    assert settled(threading.active_count, threads) == threads
    assert settled(sessions, 0) == 0
    assert not Author.objects.exists()


def test_many_loops_leave_nothing():
    async def work():
        await asyncio.gather(*(Author.objects.acount() for _ in range(2)))

    def objects():
        gc.collect()
        return len(gc.get_objects()) + gc.get_freeze_count()

    connections.close_all()
    threads, stores = threading.active_count(), len(loops._stores)
    for number in range(60):
        asyncio.run(work())
        if number == 20:
            before = objects()
    assert objects() < before * 1.02
    assert settled(sessions, 0) == 0
    assert settled(threading.active_count, threads) == threads
    assert len(loops._stores) <= stores + 1


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
    loops.store().pools.update(broken=Broken(), fine=fine)
    await loops.close_store()
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
    assert idle.shelves().idle["default"]
    await loops.close_store()
    assert not idle.shelves().idle
    await run(connection.close)
    assert await asyncio.to_thread(settled, sessions, 0) == 0


@sqlite_only
def test_a_kept_iterator_does_not_keep_its_thread():
    """Its cursor is closed with the connection, which is closed twice."""
    kept = []

    async def work():
        kept.append(Author.objects.order_by("pk").aiterator(chunk_size=1))
        await anext(kept[0])

    Author.objects.bulk_create([Author(name=str(n)) for n in range(200)])
    connections.close_all()
    threads = threading.active_count()
    with asyncio.Runner() as runner:
        runner.run(work())
    assert settled(threading.active_count, threads) == threads


async def context_is_freed():
    """Also that of the first task to query, whose connection is used by others after it."""

    class Request:
        pass

    async def work():
        found = Request()
        of_a_request.set(found)
        await Author.objects.acount()
        return weakref.ref(found)

    of_a_request = contextvars.ContextVar("of_a_request")
    gone = [await asyncio.create_task(work()) for _ in range(3)]
    async with asyncio.timeout(20):
        while any(ref() for ref in gone):  # a thread may have to end first
            await asyncio.sleep(0)
            gc.collect()


async def test_what_a_task_had_in_its_context_is_freed_with_it():
    await context_is_freed()


async def test_and_with_a_pool(pooled):
    await context_is_freed()
