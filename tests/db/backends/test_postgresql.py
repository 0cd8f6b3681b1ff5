"""psycopg 3 on the loop: faces, locks, server-side cancellation, COPY, notices."""

import asyncio
import gc
import threading
import time

import psycopg
import pytest
from asgiref.sync import sync_to_async
from conftest import postgresql_only
from db.endings import in_new_context, rows
from django.db import DataError, OperationalError, connection, transaction
from testapp.models import Author

from django_aio import run
from django_aio.db.backends.postgresql import waiting
from django_aio.db.backends.postgresql.connection import CooperativeConnection
from django_aio.db.backends.postgresql.lock import ConnectionLock

pytestmark = [pytest.mark.usefixtures("db"), postgresql_only]


async def execute(sql, *params):
    async with connection.cursor() as cursor:
        await cursor.execute(sql, params or None)
        return await cursor.fetchall() if cursor.description else None


async def test_the_loop_goes_on_during_a_statement():
    """The lock that the statement waits for is given by the loop itself."""
    await execute("SELECT pg_advisory_lock(1)")
    waiting = in_new_context(execute("SELECT pg_advisory_lock(1)"))
    while not (await execute("SELECT count(*) FROM pg_locks WHERE NOT granted"))[0][0]:
        pass
    await execute("SELECT pg_advisory_unlock(1)")
    await waiting


async def test_both_faces_share_prepared_statements():
    def prepare():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1", prepare=True)

    await run(connection.ensure_connection)
    face = connection.connection
    assert isinstance(face, CooperativeConnection)
    assert CooperativeConnection.over(face.twin) is face
    await run(face.execute, "SELECT 1", prepare=True)
    await face.twin.execute("SELECT 2", prepare=True)
    await run(face.execute, "SELECT 3", prepare=True)


async def test_a_connection_opened_outside_works_inside():
    """As a test's connection does, which its synchronous set-up opened."""
    params = connection.get_connection_params()
    face = await asyncio.to_thread(CooperativeConnection.connect, **params)
    notices = []
    face.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    await run(face.execute, "DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    assert notices == ["hello"]
    await run(face.close)


async def test_cancelling_a_task_cancels_its_statement():
    started = asyncio.Event()
    pid = None

    async def sleep():
        nonlocal pid
        pid = (await execute("SELECT pg_backend_pid()"))[0][0]
        started.set()
        await execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(sleep())
    await started.wait()
    query = "SELECT state FROM pg_stat_activity WHERE pid = %s AND query LIKE %s"
    while not await execute(query, pid, "%pg_sleep(60)%"):
        pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await execute(query + " AND state = 'active'", pid, "%pg_sleep(60)%") == []


async def test_a_timeout_leaves_a_connection_that_works():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await execute("SELECT pg_sleep(60)")
    assert await execute("SELECT 1") == [(1,)]


async def test_a_killed_connection_is_an_operational_error():
    pid = (await execute("SELECT pg_backend_pid()"))[0][0]
    await in_new_context(execute("SELECT pg_terminate_backend(%s, 5000)", pid))
    with pytest.raises(OperationalError):
        await execute("SELECT 1")
    await run(connection.close)
    assert await execute("SELECT 1") == [(1,)]


async def test_a_killed_connection_has_closed_its_left_cursors(kept):
    """What the server ends is closed as what we close is: psycopg warns of a cursor left open."""
    await rows()
    with pytest.raises(OperationalError):
        async with transaction.atomic():
            pid = (await execute("SELECT pg_backend_pid()"))[0][0]
            async for _ in Author.objects.order_by("pk").aiterator(chunk_size=2):
                break
            await in_new_context(execute("SELECT pg_terminate_backend(%s, 5000)", pid))
    await run(connection.close)
    gc.collect()


async def test_errors_are_djangos():
    with pytest.raises(DataError, match="division by zero"):
        await execute("SELECT 1/0")


async def test_copy():
    def copy():
        sql = "COPY testapp_author (id, name, born) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(sql) as copy:
            for number in range(100):
                copy.write_row((number, f"author {number}", 1900))

    await run(copy)
    assert await Author.objects.acount() == 100


async def test_no_server():
    wrapper = connection.copy()
    wrapper.settings_dict["PORT"] = "1"
    with pytest.raises(OperationalError):
        await run(wrapper.ensure_connection)


async def test_the_lock_serves_tasks_in_turn():
    lock = ConnectionLock()
    order = []

    def use(name):
        with lock:
            order.append(name)
            from django_aio import wait

            wait(asyncio.sleep(0))
            order.append(name)

    await asyncio.gather(*(run(use, name) for name in "abc"))
    assert order == list("aabbcc")


async def test_a_cancelled_waiter_passes_its_turn_on():
    lock = ConnectionLock()
    lock.acquire()

    def use():
        with lock:
            pass

    first, second = asyncio.create_task(run(use)), asyncio.create_task(run(use))
    await asyncio.sleep(0)
    lock.release()  # the first waiter's turn ...
    first.cancel()  # ... which it never takes
    with pytest.raises(asyncio.CancelledError):
        await first
    async with asyncio.timeout(5):
        await second


async def test_the_lock_between_a_thread_and_a_task():
    lock = ConnectionLock()
    held, release = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            release.wait(5)

    thread = asyncio.create_task(asyncio.to_thread(hold))
    await asyncio.to_thread(held.wait, 5)

    def use():
        with lock:
            return "mine"

    waiting = asyncio.create_task(run(use))
    await asyncio.sleep(0)
    assert not waiting.done()
    release.set()
    async with asyncio.timeout(5):
        assert await waiting == "mine"
        await thread


def test_outside_the_bridge_it_is_psycopgs():
    connection.ensure_connection()
    assert isinstance(connection.connection, psycopg.Connection)
    assert connection.connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("mode", "value"),
    [("autocommit", False), ("isolation_level", psycopg.IsolationLevel.SERIALIZABLE)],
)
async def test_a_mode_is_set_without_a_wait(mode, value, monkeypatch):
    """What is not sent cannot be cancelled, however long the loop has not gone on."""
    monkeypatch.setattr(waiting, "MAX_BUSY_TIME", -1)
    await run(connection.ensure_connection)
    before = getattr(connection.connection, mode)
    for each in (value, before):
        with pytest.raises(StopIteration):
            run(setattr, connection.connection, mode, each).send(None)
        assert getattr(connection.connection, mode) == each


async def waiting_statement():
    """A task that waits for the answer of a statement, and its physical connection."""
    slept_on.clear()
    task = asyncio.create_task(sleeping())
    for _ in range(500):
        face = slept_on[-1] if slept_on else None
        if face is not None and face._waiting is not None:
            return task, face
        await asyncio.sleep(0.01)
    raise AssertionError("it does not wait")


slept_on = []


async def sleeping():
    async with connection.cursor() as cursor:
        slept_on.append(connection.connection)
        await cursor.execute("SELECT pg_sleep(30)")


async def test_closing_wakes_who_waits():
    task, face = await waiting_statement()
    descriptor = face.pgconn.socket
    face.shut()
    with pytest.raises(OperationalError, match="was closed while"):
        await task
    assert not asyncio.get_running_loop().remove_reader(descriptor)


async def test_closing_between_the_answer_and_its_reading():
    """psycopg's generator must not go on: it has a pointer to what is freed."""
    task, face = await waiting_statement()
    face._waiting.waiter.set_result(None)
    face.shut()
    with pytest.raises(OperationalError, match="was closed while"):
        await task


async def test_closing_from_another_thread():
    task, face = await waiting_statement()
    await asyncio.to_thread(face.shut)
    with pytest.raises(OperationalError, match="was closed while"):
        await task


async def test_closing_under_a_thread_hangs_up():
    """To free the handle that a thread is inside of would crash the process."""
    inside = threading.Event()

    def sleep():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            faces.append(connection.connection)
            inside.set()
            cursor.execute("SELECT pg_sleep(30)")

    faces = []
    task = asyncio.create_task(sync_to_async(sleep, thread_sensitive=False)())
    await asyncio.to_thread(inside.wait, 10)
    while faces[0]._inside.acquire_now():  # until the thread is inside
        faces[0]._inside.release()
        await asyncio.sleep(0.001)
    faces[0].shut()
    with pytest.raises(OperationalError):
        await asyncio.wait_for(task, 10)


async def test_a_lost_connection_is_replaced():
    await Author.objects.aexists()
    connection.connection.shut()
    assert await Author.objects.acount() == 0
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
    connection.connection.shut()
    async with transaction.atomic():
        await Author.objects.acreate(name="b")
    assert await Author.objects.acount() == 2


async def test_a_cancellation_that_insists_cancels_the_statement():
    """As anyio's scopes do: at every await, also of the clean-up."""
    task, _ = await waiting_statement()
    began = time.monotonic()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 4  # it did not need the limit
