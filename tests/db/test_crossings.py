"""R1 and R2, as a table: who calls, what is called, inside a transaction or not."""

import asyncio
import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import BaseCommand, call_command
from django.db import DatabaseError, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase, TransactionTestCase
from django.test.client import AsyncClient
from testapp.models import Author

from django_aio import run
from django_aio.hooks import hook

pytestmark = pytest.mark.usefixtures("db")


def look():
    """What synchronous code sees: its logical connection and the rows."""
    found = sorted(Author.objects.values_list("name", flat=True))
    return connections["default"], found


async def alook():
    found = sorted([n async for n in Author.objects.values_list("name", flat=True)])
    return connections["default"], found


# How a coroutine reaches each kind of code below it, and whether that is the same chain.
FROM_COROUTINE = {
    "bridged sync": (lambda: run(look), True),
    "guest thread": (lambda: sync_to_async(look)(), True),
    "guest thread, any": (lambda: sync_to_async(look, thread_sensitive=False)(), True),
    "coroutine": (alook, True),
    "bridged sync calls async": (lambda: run(async_to_sync(alook)), True),
    "guest thread calls async": (lambda: sync_to_async(async_to_sync(alook))(), True),
    "bridged, async, guest thread": (lambda: run(async_to_sync(sync_to_async(look))), True),
    "task": (lambda: asyncio.create_task(alook()), False),
    "task of bridged sync": (lambda: run(async_to_sync(spawn)), False),
    "task of guest thread": (lambda: sync_to_async(async_to_sync(spawn))(), False),
    "thread": (lambda: asyncio.to_thread(look_and_close), False),
}


async def spawn():
    return await asyncio.create_task(alook())


def look_and_close():
    try:
        return look()
    finally:
        if threading.current_thread().name.startswith("asyncio_"):
            connections.close_all()


@pytest.mark.parametrize("way", FROM_COROUTINE)
async def test_from_a_coroutine_outside_a_transaction(way):
    call, same = FROM_COROUTINE[way]
    await Author.objects.acreate(name="a")
    own = connections["default"]
    found, rows = await call()
    assert (found is own, rows) == (same, ["a"])


@pytest.mark.parametrize("way", FROM_COROUTINE)
async def test_from_a_coroutine_inside_a_transaction(way):
    """Whether it is the same chain or joins: it sees the row, and is rolled back with it."""
    call, _ = FROM_COROUTINE[way]
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
        own = connections["default"]
        if way == "thread":
            found, rows = await asyncio.to_thread(look)
        else:
            found, rows = await call()
        assert (found is own, rows) == (True, ["a"])
        transaction.set_rollback(True)
    assert not await Author.objects.aexists()


def write(name):
    Author.objects.create(name=name)


async def awrite(name):
    await Author.objects.acreate(name=name)


WRITERS = {
    "bridged sync": lambda name: run(write, name),
    "guest thread": lambda name: sync_to_async(write)(name),
    "guest thread calls async": lambda name: sync_to_async(async_to_sync(awrite))(name),
    "task": lambda name: asyncio.create_task(awrite(name)),
    "thread": lambda name: asyncio.to_thread(write, name),
}


@pytest.mark.parametrize("way", WRITERS)
async def test_what_the_callee_writes_is_rolled_back(way):
    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await WRITERS[way]("a")
            assert await Author.objects.acount() == 1
            raise ZeroDivisionError
    assert not await Author.objects.aexists()


@pytest.mark.parametrize("way", ["bridged sync", "guest thread", "guest thread calls async"])
async def test_a_transaction_opened_by_the_callee(way):
    """Synchronous code opens the block, and calls back into coroutines inside it."""

    async def inside():
        await awrite("b")
        return await asyncio.create_task(alook())

    def work():
        with transaction.atomic():
            write("a")
            _, rows = async_to_sync(inside)()
            assert rows == ["a", "b"]
            transaction.set_rollback(True)

    calls = {
        "bridged sync": lambda: run(work),
        "guest thread": lambda: sync_to_async(work)(),
        "guest thread calls async": lambda: sync_to_async(async_to_sync(sync_to_async(work)))(),
    }
    await calls[way]()
    assert not await Author.objects.aexists()


# From synchronous code in a plain thread.
def from_thread(inside):
    """Everything that a plain thread may call, and what it sees."""
    own = connections["default"]
    for call in (
        async_to_sync(alook),
        async_to_sync(sync_to_async(look)),
        async_to_sync(lambda: run(look)),
    ):
        found, rows = call()
        assert (found is own, rows) == (True, ["a"]), call
    found, rows = async_to_sync(spawn)()
    assert (found is own, rows) == (inside, ["a"])


@pytest.mark.filterwarnings("ignore:async_to_sync was passed a non-async")
def test_from_a_plain_thread():
    write("a")
    from_thread(inside=False)


@pytest.mark.filterwarnings("ignore:async_to_sync was passed a non-async")
def test_from_a_plain_thread_inside_a_transaction():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        write("a")
        from_thread(inside=True)
        async_to_sync(awrite)("b")
        assert look()[1] == ["a", "b"]
        raise ZeroDivisionError
    assert look()[1] == []


def test_a_connection_opened_by_the_coroutine_stays_with_the_thread():
    connections.close_all()
    del connections["default"]
    found, _ = async_to_sync(alook)()
    assert connections["default"] is found
    assert found.aio is None
    write("a")


def test_a_management_command():
    class Command(BaseCommand):
        def handle(self, **options):
            with transaction.atomic():
                write("a")
                assert async_to_sync(alook)()[1] == ["a"]
                transaction.set_rollback(True)

    call_command(Command())
    assert look()[1] == []


def test_wsgi_threads(rf_environ):
    """A coroutine view under WSGI uses the connection of its thread."""
    handler = WSGIHandler()
    statuses = []

    def serve(number):
        for name in "ab":
            environ = rf_environ(f"/write/?name={name}-{number}")
            body = handler(environ, lambda status, headers: statuses.append(status))
            body.close()
        connections.close_all()

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == ["200 OK"] * 8
    assert len(look()[1]) == 8


@pytest.fixture
def rf_environ():
    from django.test import RequestFactory

    return lambda path: RequestFactory().get(path).environ


class Tests(TestCase):
    """Run by the test below: an async test sees what the class set up, and is rolled back."""

    __test__ = False

    @classmethod
    def setUpTestData(cls):
        write("class")

    def setUp(self):
        write("setup")

    async def test_coroutine(self):
        assert (await alook())[1] == ["class", "setup"]
        await awrite("coroutine")
        assert (await asyncio.gather(alook(), alook()))[0][1] == ["class", "coroutine", "setup"]
        assert (await sync_to_async(look)())[1] == ["class", "coroutine", "setup"]
        async with transaction.atomic():
            await awrite("inner")
            transaction.set_rollback(True)
        response = await AsyncClient().get("/write/?name=view")
        assert response.status_code == 200
        assert (await alook())[1] == ["class", "coroutine", "setup", "view"]

    def test_sync(self):
        assert look()[1] == ["class", "setup"]
        async_to_sync(awrite)("coroutine")
        assert look()[1] == ["class", "coroutine", "setup"]

    async def test_on_commit(self):
        called = []

        async def note():
            called.append(1)

        with self.captureOnCommitCallbacks(execute=False) as callbacks:
            async with transaction.atomic():
                await transaction.aon_commit(note)
        assert len(callbacks) == 1
        assert called == []


class TransactionTests(TransactionTestCase):
    __test__ = False

    async def test_committed(self):
        await awrite("a")
        assert (await asyncio.create_task(alook()))[1] == ["a"]


@pytest.mark.parametrize("case", [Tests, TransactionTests])
def test_djangos_test_cases(case):
    import unittest

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun
    assert result.errors + result.failures == []
    assert look()[1] == []


def test_a_loop_that_a_thread_runs_inside_its_transaction():
    """As pytest's plugins do: a fixture opens the transaction, asyncio.run() runs the test."""

    async def test():
        assert (await alook())[1] == ["fixture"]
        await asyncio.gather(awrite("a"), awrite("b"))
        with pytest.raises(ZeroDivisionError):
            async with transaction.atomic():
                await awrite("c")
                raise ZeroDivisionError
        assert (await sync_to_async(look)())[1] == ["a", "b", "fixture"]
        assert (await AsyncClient().get("/write/?name=view")).status_code == 200
        return (await asyncio.create_task(alook()))[1]

    with transaction.atomic():
        write("fixture")
        assert asyncio.run(test()) == ["a", "b", "fixture", "view"]
        assert asyncio.run(alook())[1] == ["a", "b", "fixture", "view"]
        transaction.set_rollback(True)
    assert look()[1] == []
    assert asyncio.run(alook())[1] == []


def test_a_task_that_outlives_the_transaction_of_its_thread():
    async def use_then_wait():
        await awrite("a")
        used.set()
        await resume.wait()
        await awrite("too late")

    async def start():
        task = asyncio.create_task(use_then_wait())
        await used.wait()
        return task

    async def finish(task):
        resume.set()
        await task

    with asyncio.Runner() as runner:
        used, resume = asyncio.Event(), asyncio.Event()
        with transaction.atomic():
            task = runner.run(start())
        with pytest.raises(TransactionManagementError, match="has ended"):
            runner.run(finish(task))
    assert look()[1] == ["a"]


async def test_only_the_threads_of_a_chain_may_use_its_connection(db):
    """Without being shared by `inc_thread_sharing()`, which is for whoever wants more."""
    await Author.objects.acount()
    wrapper = connections["default"]
    assert not wrapper.allow_thread_sharing
    await sync_to_async(wrapper.validate_thread_sharing)()
    with pytest.raises(DatabaseError, match="can only be used in that same thread"):
        await asyncio.to_thread(wrapper.validate_thread_sharing)


async def test_a_hook_is_awaited_by_async_to_sync():
    """A hook tells by its caller whether it is awaited: in the bridge too, that is a coroutine."""

    async def answer():
        return 42

    assert await run(async_to_sync(hook(answer, "Await it."))) == 42
