"""R8: a guest that is left behind takes nothing of its caller's with it."""

import asyncio
import contextlib
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async
from conftest import postgresql_only
from db.endings import Work, in_new_context, names
from django.db import (
    DatabaseError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.transaction import TransactionManagementError
from testapp.models import Author

from django_aio import hold_connection, run
from django_aio.compat import channels
from django_aio.db.guests import Guest

pytestmark = pytest.mark.usefixtures("db")


HOWS = {
    "sensitive": lambda work: sync_to_async(work)(),
    "any thread": lambda work: sync_to_async(work, thread_sensitive=False)(),
    "nested": lambda work: sync_to_async(async_to_sync(sync_to_async(work)))(),
}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("how", HOWS)
async def test_in_a_transaction_of_the_caller(how, nested, times):
    """All of it is rolled back at once, and the thread's next statement raises."""
    work = Work(nested=nested)

    async def caller():
        async with transaction.atomic():
            await Author.objects.acreate(name="caller")
            await HOWS[how](work)

    task = in_new_context(caller())
    await work.until(work.written)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    if how == "nested":  # asgiref's own: the inner thread is waited for
        work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    work.go_on.set()
    await work.until(work.ended)
    assert await names() == []
    refused = isinstance(work.error, TransactionManagementError)
    assert refused or how == "nested"  # which had time to end before it was left


@pytest.mark.parametrize("nested", [False, True])
async def test_outside_a_transaction_of_the_caller(nested):
    """The thread finishes its work, and the caller goes on with another connection."""
    work = Work(nested=nested)
    wrappers = []

    async def caller():
        wrappers.append(connection.aio)
        try:
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                await sync_to_async(work, thread_sensitive=False)()
        except TimeoutError:
            if connection.vendor == "sqlite" and nested:
                work.go_on.set()  # SQLite has one writer
            await Author.objects.acreate(name="caller")

    timeouts = []
    task = in_new_context(caller())
    await work.until(work.written)
    timeouts[0].reschedule(0)
    await task
    work.go_on.set()
    await work.until(work.ended)
    assert work.error is None
    assert await names() == ["caller", "thread 1", "thread 2"]


async def test_a_timeout_that_is_swallowed_in_the_block():
    """The block cannot commit half of the thread's work, and says so."""
    work = Work()

    async def caller():
        async with transaction.atomic():
            await Author.objects.acreate(name="caller")
            try:
                async with asyncio.timeout(None) as timeout:
                    timeouts.append(timeout)
                    await sync_to_async(work, thread_sensitive=False)()
            except TimeoutError:
                pass

    timeouts = []
    task = in_new_context(caller())
    await work.until(work.written)
    timeouts[0].reschedule(0)
    with pytest.raises(TransactionManagementError, match="left behind"):
        await task
    work.go_on.set()
    await work.until(work.ended)
    assert isinstance(work.error, TransactionManagementError)
    assert await names() == []


async def test_a_timeout_round_a_savepoint():
    """What was outside the savepoint is kept."""
    work = Work()

    async def caller():
        async with transaction.atomic():
            await Author.objects.acreate(name="caller")
            try:
                async with asyncio.timeout(None) as timeout:
                    timeouts.append(timeout)
                    async with transaction.atomic():
                        await sync_to_async(work, thread_sensitive=False)()
            except TimeoutError:
                pass
            await Author.objects.acreate(name="after")

    timeouts = []
    task = in_new_context(caller())
    await work.until(work.written)
    timeouts[0].reschedule(0)
    await task
    work.go_on.set()
    await work.until(work.ended)
    assert await names() == ["after", "caller"]


@postgresql_only
async def test_the_running_statement_is_cancelled_on_the_server():
    started = threading.Event()
    errors = []

    def slow():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            started.set()
            try:
                cursor.execute("SELECT pg_sleep(30)")
            except DatabaseError as error:
                errors.append(error)

    async def caller():
        async with transaction.atomic():
            await Author.objects.acreate(name="caller")
            await sync_to_async(slow, thread_sensitive=False)()

    task = in_new_context(caller())
    await asyncio.to_thread(started.wait, 20)
    await until_active()
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 5
    assert await names() == []


async def until_active():
    async with connection.cursor() as cursor:
        for _ in range(200):
            await cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' "
                "AND state = 'active' AND datname = current_database()"
            )
            if await cursor.fetchone() == (1,):
                return
            await asyncio.sleep(0.01)
    raise AssertionError("the statement does not run")


async def test_a_guest_of_a_joined_task():
    """The transaction that a task had joined cannot commit half of its thread's work."""
    work = Work()

    async def owner():
        async with transaction.atomic():
            await Author.objects.acreate(name="owner")
            child = asyncio.create_task(joined())
            await work.until(work.written)
            child.cancel()
            await asyncio.wait([child])

    async def joined():
        await Author.objects.acount()
        await sync_to_async(work, thread_sensitive=False)()

    task = in_new_context(owner())
    with pytest.raises(TransactionManagementError, match="left behind"):
        await task
    work.go_on.set()
    await work.until(work.ended)
    assert isinstance(work.error, TransactionManagementError)
    assert await names() == []


async def test_the_connections_of_a_guest_left_behind_are_given_back():
    work = Work()

    async def caller():
        await Author.objects.aexists()
        wrappers.append(connection.aio)
        await sync_to_async(work, thread_sensitive=False)()

    wrappers = []
    task = in_new_context(caller())
    await work.until(work.written)
    task.cancel()
    await asyncio.wait([task])
    chain = wrappers[0].chain
    assert chain.wrappers
    work.go_on.set()
    await work.until(work.ended)
    for _ in range(200):
        if not chain.wrappers:
            break
        await asyncio.sleep(0.01)
    assert not chain.wrappers


async def test_a_guest_that_begins_when_its_caller_has_left():
    """It does not join the transaction either, which its context still knows."""
    errors = []

    def write():
        try:
            Author.objects.create(name="thread")
        except TransactionManagementError as error:
            errors.append(error)

    async with transaction.atomic():
        await Author.objects.acreate(name="caller")
        guest = Guest(connection.aio.chain)
        guest.leave()

        def late():
            with guest.acting():
                write()

        await asyncio.to_thread(late)
    assert len(errors) == 1
    assert await names() == ["caller"]


async def test_a_guest_of_a_task_that_joins_by_it():
    """The child's first statement is the guest's."""
    work = Work()

    async def owner():
        async with transaction.atomic():
            await Author.objects.acreate(name="owner")
            child = asyncio.create_task(sync_to_async(work, thread_sensitive=False)())
            await work.until(work.written)
            child.cancel()
            await asyncio.wait([child])

    task = in_new_context(owner())
    with pytest.raises(TransactionManagementError, match="left behind"):
        await task
    work.go_on.set()
    await work.until(work.ended)
    assert await names() == []


async def test_a_coroutine_of_a_thread_joins():
    """Also where the thread, one of many of an executor, has a connection of its own."""

    async def write_in_coroutine():
        await Author.objects.acreate(name="thread")

    def call():
        async_to_sync(write_in_coroutine)()

    def close():
        connections.close_all()

    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(executor, Author.objects.count)
        async with transaction.atomic():
            await Author.objects.acreate(name="caller")
            await loop.run_in_executor(executor, contextvars.copy_context().run, call)
            transaction.set_rollback(True)
        await loop.run_in_executor(executor, close)
    assert await names() == []


def leave_behind(*, nested):
    """A thread's coroutine that leaves a guest behind. It runs in that thread, so it ends first."""
    errors = []

    def guest():
        try:
            with transaction.atomic() if nested else contextlib.nullcontext():
                Author.objects.create(name="guest 1")
                begun.set()
                assert gone.wait(20)
                Author.objects.create(name="guest 2")
        except TransactionManagementError as error:
            errors.append(error)

    async def leave():
        call = asyncio.ensure_future(sync_to_async(guest)())
        assert await asyncio.to_thread(begun.wait, 20)
        call.cancel()
        await asyncio.wait([call])
        gone.set()

    begun, gone = threading.Event(), threading.Event()
    async_to_sync(leave)()
    assert len(errors) == 1


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_guest_in_the_block_of_a_thread(fails, nested):
    """It cannot commit, says so, and the thread's connection is as ever afterwards."""
    expected = LookupError if fails else TransactionManagementError
    with pytest.raises(expected), transaction.atomic():
        Author.objects.create(name="thread")
        leave_behind(nested=nested)
        if fails:
            raise LookupError
    assert not connection.in_atomic_block
    assert not Author.objects.exists()
    Author.objects.create(name="after")
    with transaction.atomic():
        pass


@pytest.mark.parametrize("savepoint", [False, True])
def test_a_guest_in_a_savepoint_of_a_thread(savepoint):
    """What was outside of it is kept, if there is one."""
    with (
        contextlib.nullcontext() if savepoint else pytest.raises(TransactionManagementError),
        transaction.atomic(),
    ):
        Author.objects.create(name="thread")
        with (
            pytest.raises(TransactionManagementError, match="left behind"),
            transaction.atomic(savepoint=savepoint),
        ):
            leave_behind(nested=True)
    found = list(Author.objects.values_list("name", flat=True))
    assert found == (["thread"] if savepoint else [])


class Closing(SyncToAsync):
    """As packages do that put work round the function, in its thread (Channels does)."""

    def thread_handler(self, *args, **kwargs):
        close_old_connections()
        try:
            return super().thread_handler(*args, **kwargs)
        finally:
            close_old_connections()


def is_open():
    return connection.connection is not None


async def test_what_a_package_does_round_the_function_is_done_for_the_chain():
    await Author.objects.acount()
    assert await run(is_open)
    assert await Closing(Author.objects.count)() == 0
    assert not await run(is_open)


async def test_it_closes_neither_a_transaction_nor_what_is_held():
    async with transaction.atomic():
        await Author.objects.acreate(name="in a block")
        await Closing(Author.objects.count)()
        assert await run(is_open)
    async with hold_connection() as held:
        before = held.connection
        await Closing(Author.objects.count)()
        assert held.connection is before
    assert await names() == ["in a block"]


@postgresql_only
async def test_nor_the_rows_that_somebody_reads():
    await Author.objects.abulk_create([Author(name=str(number)) for number in range(5)])
    found = []
    async for author in Author.objects.order_by("pk").aiterator(chunk_size=2):
        found.append(author.name)
        await Closing(Author.objects.count)()
    assert found == ["0", "1", "2", "3", "4"]


async def test_an_idle_consumer_of_channels_holds_no_connection():
    class Consumer:
        async def dispatch(self, message):
            await Author.objects.acount()
            if message == "fails":
                raise ValueError(message)

    dispatch = channels.dispatch(Consumer.dispatch)
    await dispatch(Consumer(), "works")
    assert not await run(is_open)
    with pytest.raises(ValueError, match="fails"):
        await dispatch(Consumer(), "fails")
    assert not await run(is_open)
