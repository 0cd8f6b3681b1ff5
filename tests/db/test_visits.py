"""Threads of `asyncio.to_thread()` in a transaction whose wait was cancelled."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync
from conftest import postgresql_only
from db.endings import Work, in_new_context, names
from db.states import seen
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError
from testapp.models import Author

pytestmark = pytest.mark.usefixtures("db")


class Caller:
    """A task that waits for a thread inside a block, and swallows its timeout there."""

    def __init__(self, func, *, round_block=False):
        self.func = func
        self.round_block = round_block
        self.going_on, self.may_commit = asyncio.Event(), asyncio.Event()
        self.task = in_new_context(self.run())

    async def run(self):
        async with transaction.atomic():
            await Author.objects.acreate(name="caller")
            try:
                async with asyncio.timeout(None) as self.timeout:
                    if self.round_block:
                        async with transaction.atomic():
                            await asyncio.to_thread(self.func)
                    else:
                        await asyncio.to_thread(self.func)
            except TimeoutError:
                pass
            self.going_on.set()
            await self.may_commit.wait()

    async def leave(self):
        """Let it go on without the thread, up to the end of its block."""
        self.timeout.reschedule(0)
        await asyncio.wait_for(self.going_on.wait(), 10)


@pytest.mark.parametrize("nested", [False, True])
async def test_a_timeout_that_is_swallowed_in_the_block(nested):
    """The block cannot commit half of the thread's work, and the thread cannot go on."""
    work = Work(nested=nested)
    caller = Caller(work)
    await work.until(work.written)
    await caller.leave()
    work.go_on.set()
    await work.until(work.ended)
    assert isinstance(work.error, TransactionManagementError)
    caller.may_commit.set()
    with pytest.raises(TransactionManagementError, match="left behind"):
        await caller.task
    assert await names() == []


async def test_a_timeout_round_a_savepoint():
    """What was outside the savepoint is kept."""
    work = Work()
    caller = Caller(work, round_block=True)
    await work.until(work.written)
    await caller.leave()
    caller.may_commit.set()
    await caller.task
    work.go_on.set()
    await work.until(work.ended)
    assert isinstance(work.error, TransactionManagementError)
    assert await names() == ["caller"]


class Late:
    """Begins with the database when it is told to."""

    def __init__(self, write):
        self.write = write
        self.begun, self.go_on, self.ended = (threading.Event() for _ in range(3))
        self.error = None

    def __call__(self):
        try:
            self.begun.set()
            assert self.go_on.wait(20)
            self.write()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()


def write():
    Author.objects.create(name="thread")


def write_in_a_coroutine():
    async def in_coroutine():
        await Author.objects.acreate(name="thread")

    async_to_sync(in_coroutine)()


@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("how", [write, write_in_a_coroutine])
async def test_a_thread_that_begins_when_its_caller_has_left(how, has_ended):
    """Nothing of it is in the block, and it does not go on by itself after it."""
    late = Late(how)
    caller = Caller(late)
    assert await asyncio.to_thread(late.begun.wait, 20)
    await caller.leave()
    if has_ended:
        caller.may_commit.set()
        await caller.task
    late.go_on.set()
    assert await asyncio.to_thread(late.ended.wait, 20)
    caller.may_commit.set()
    await caller.task
    assert isinstance(late.error, TransactionManagementError)
    assert await names() == ["caller"]


async def test_a_thread_that_ended_in_time_spoils_nothing():
    """Also when its caller is cancelled in the moment in which it ends."""

    async def run():
        async with transaction.atomic():
            for name in ("thread 1", "thread 2"):
                await asyncio.to_thread(Author.objects.create, name=name)
            try:
                async with asyncio.timeout(0):
                    await asyncio.sleep(1)
            except TimeoutError:
                pass

    await in_new_context(run())
    assert await names() == ["thread 1", "thread 2"]


async def test_outside_a_transaction_the_thread_finishes_its_work():
    work = Work()

    def on_its_own():
        try:
            work()
        finally:
            connection.close()

    task = in_new_context(asyncio.to_thread(on_its_own))
    await work.until(work.written)
    task.cancel()
    await asyncio.wait([task])
    work.go_on.set()
    await work.until(work.ended)
    assert work.error is None
    assert await names() == ["thread 1", "thread 2"]


async def test_a_thread_that_nobody_waits_for_joins_as_a_task_does():
    """What it has written when the block ends is committed with it."""
    work = Work()

    async def run():
        async with transaction.atomic():
            started.append(asyncio.create_task(asyncio.to_thread(work)))
            await work.until(work.written)

    started = []
    await in_new_context(run())
    work.go_on.set()
    with pytest.raises(TransactionManagementError, match="has ended"):
        await started[0]
    assert await names() == ["thread 1"]


def looked():
    """Use the thread's own connection. Returns whether it was open before, and its object."""
    was_open = connection.connection is not None
    Author.objects.count()
    return was_open, connections["default"]


async def test_the_connections_of_a_call_end_with_it():
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    first, wrapper = await asyncio.to_thread(looked)
    assert wrapper.connection is None
    assert await asyncio.to_thread(looked) == (first, wrapper) == (False, wrapper)


async def test_they_stay_open_as_conn_max_age_asks(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await asyncio.to_thread(looked)
    assert (await asyncio.to_thread(looked))[0]
    await asyncio.to_thread(connections.close_all)


async def test_a_connection_that_the_thread_had_before_stays_open():
    executor = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    executor.submit(looked).result()
    assert (await asyncio.to_thread(looked))[0]
    assert executor.submit(looked).result()[0]
    executor.submit(connections.close_all).result()


@postgresql_only
async def test_threads_do_not_keep_a_pool_from_one_another(pooled):
    """There are more of them than connections."""

    def write():
        with transaction.atomic():
            Author.objects.create(name=f"thread {threading.get_ident()} {time.monotonic_ns()}")

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(12))
    async with asyncio.timeout(20):
        await asyncio.gather(*(asyncio.to_thread(write) for _ in range(36)))
    assert await Author.objects.acount() == 36


def set_tenant():
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant', 'ada', false)")


def set_tenant_by_the_client():
    connection.ensure_connection()
    connection.connection.execute("SELECT set_config('app.tenant', 'ada', false)")


@postgresql_only
@pytest.mark.parametrize("set_it", [set_tenant, set_tenant_by_the_client])
async def test_what_a_call_leaves_in_the_session_is_not_there_for_the_next(kept, set_it):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    look = "current_setting('app.tenant', true)"
    for _ in range(2):
        await asyncio.to_thread(set_it)
        assert not await asyncio.to_thread(seen, look)
    await asyncio.to_thread(connections.close_all)
