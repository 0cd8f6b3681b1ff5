"""SQLite in aiosqlite's thread: one hop per statement, interruption, locks that do not block."""

import asyncio
import contextvars
import functools
import sqlite3
import threading

import pytest
from conftest import sqlite_only
from django.db import OperationalError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from testapp.models import Author

from django_aio import run
from django_aio.db.backends.sqlite3.calls import SQLiteCalls

pytestmark = [pytest.mark.usefixtures("db"), sqlite_only]

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def execute(sql):
    async with connection.cursor() as cursor:
        await cursor.execute(sql)
        return await cursor.fetchall()


@pytest.fixture
def hops(monkeypatch):
    """Counts the functions that aiosqlite sends to its thread."""
    counted = []
    call = SQLiteCalls.call

    def counting(self, func, *args):
        counted.append(func)
        return call(self, func, *args)

    monkeypatch.setattr(SQLiteCalls, "call", counting)
    return counted


async def test_one_hop_per_statement(hops):
    await Author.objects.abulk_create([Author(name=str(n)) for n in range(150)])
    hops.clear()
    assert len([author async for author in Author.objects.all()[:50]]) == 50
    assert len(hops) == 1
    hops.clear()
    await Author.objects.aget(name="7")
    assert len(hops) == 1
    hops.clear()
    assert len([author async for author in Author.objects.all()]) == 150
    assert len(hops) == 2


async def test_a_transaction_is_three_hops(hops):
    await Author.objects.acount()
    hops.clear()
    async with transaction.atomic():
        await Author.objects.acount()
    assert len(hops) == 3  # BEGIN, the statement, COMMIT


async def test_statements_run_in_a_thread_of_their_own():
    threads = []
    await run(connection.ensure_connection)
    worker = connections["default"].aio.worker
    await worker.create_function("note", 0, lambda: threads.append(threading.current_thread()))
    await execute("SELECT note()")
    assert threads != [threading.main_thread()]
    assert len(threads) == 1


async def test_context_variables_reach_the_thread():
    """A tracer of the driver, or a function of a project's in SQL, asks for those of its caller."""

    async def ask(name):
        who.set(name)
        function = functools.partial(who.get, "nobody")
        await run(connection.ensure_connection)
        await run(connection.connection.create_function, "who", 0, function)
        return await execute("SELECT who()")

    who = contextvars.ContextVar("who")
    answers = await asyncio.gather(*(asyncio.create_task(ask(name)) for name in "abc"))
    assert answers == [[("a",)], [("b",)], [("c",)]]


async def test_a_connection_is_opened_in_the_context_of_who_asks(monkeypatch):
    def opened(**params):
        seen.append(who.get("nobody"))
        return connect(**params)

    who, seen, connect = contextvars.ContextVar("who"), [], sqlite3.connect
    monkeypatch.setattr("django.db.backends.sqlite3.base.Database.connect", opened)
    who.set("a")
    await run(connection.close)
    await execute("SELECT 1")
    assert seen == ["a"]


async def test_cancelling_interrupts_the_statement():
    running = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def endless():
        await run(connection.ensure_connection)
        worker = connections["default"].aio.worker
        signal = functools.partial(loop.call_soon_threadsafe, running.set)
        await worker.create_function("signal", 0, lambda: signal() and None)
        await execute(ENDLESS.replace("SELECT 1 ", "SELECT coalesce(signal(), 1) "))

    task = asyncio.create_task(endless())
    await running.wait()
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await execute("SELECT 1") == [(1,)]


async def test_a_timeout_leaves_a_connection_that_works():
    await execute("SELECT 1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await execute(ENDLESS)
    assert await execute("SELECT 1") == [(1,)]


async def test_waiting_for_a_lock_does_not_stop_the_loop():
    """The other writer commits on the loop, while this one's thread waits for it."""
    entered, waiting = asyncio.Event(), asyncio.Event()

    async def first():
        async with transaction.atomic():
            await Author.objects.acreate(name="first")
            entered.set()
            await waiting.wait()

    async def second():
        await entered.wait()
        asyncio.get_running_loop().call_later(0.05, waiting.set)
        async with transaction.atomic():
            await Author.objects.acreate(name="second")

    await asyncio.gather(first(), second())
    assert await Author.objects.acount() == 2


async def test_a_busy_database_is_djangos_error(monkeypatch):
    blocker = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        options = {**connection.settings_dict["OPTIONS"], "timeout": 0.01}
        monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
        with pytest.raises(OperationalError, match="locked"):
            await Author.objects.acreate(name="a")
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()


async def test_rows_are_read_in_any_order_of_calls():
    await Author.objects.abulk_create([Author(name=f"{n:04}") for n in range(1000)])
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT name FROM testapp_author ORDER BY name")
        names = [(await cursor.fetchone())[0]]
        names += [name for (name,) in await cursor.fetchmany(150)]
        names += [name for (name,) in await cursor.fetchmany(1)]
        async for (name,) in cursor:
            names.append(name)
            if len(names) == 900:
                break
        names += [name for (name,) in await cursor.fetchall()]
        assert await cursor.fetchone() is None
        assert await cursor.fetchall() == []
        assert await cursor.fetchmany(10) == []
    assert names == [f"{n:04}" for n in range(1000)]


async def test_a_statement_without_rows():
    async with connection.cursor() as cursor:
        await cursor.execute("INSERT INTO testapp_author (name, born) VALUES ('a', 1)")
        assert cursor.rowcount == 1
        assert cursor.lastrowid
        assert await cursor.fetchall() == []
        await cursor.executemany(
            "INSERT INTO testapp_author (name, born) VALUES (%s, %s)", [("b", 1), ("c", 1)]
        )
        assert cursor.rowcount == 2


async def test_the_thread_ends_with_its_connection():
    await execute("SELECT 1")
    thread = connections["default"].aio.worker._thread
    await run(connection.close)
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


async def test_a_connection_of_no_chain_has_a_thread_as_well(db):
    """A copy, as some tools and tests make: its statements must not block the loop either."""
    threads = []

    def use():
        copy = connection.copy()
        try:
            copy.ensure_connection()
            copy.connection.create_function(
                "note_thread", 0, lambda: threads.append(threading.current_thread())
            )
            with copy.cursor() as cursor:
                cursor.execute("SELECT note_thread()")
        finally:
            copy.close()

    async with transaction.atomic():  # of another connection: none of the copy's business
        await run(use)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_a_block_whose_connection_was_lost_cannot_commit(monkeypatch):
    """A write that waits for a lock cannot be interrupted: the connection is given up."""
    monkeypatch.setattr("django_aio.db.backends.sqlite3.worker.INTERRUPT_TIMEOUT", 0.05)

    def busy(*args):
        go_on.wait(10)

    go_on = threading.Event()
    with pytest.raises(TransactionManagementError, match="was closed"):
        async with transaction.atomic():
            await Author.objects.acreate(name="lost")
            worker = connection.aio.worker
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await run(SQLiteCalls(connections["default"], worker).call, busy)
    go_on.set()
    assert not await Author.objects.aexists()
