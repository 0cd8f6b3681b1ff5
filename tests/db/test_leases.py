"""R4: a pooled connection is held for one statement, and for longer wherever that matters."""

import asyncio
import threading

import pytest
from asgi import Client
from asgiref.sync import async_to_sync, sync_to_async
from conftest import bridge_pool, out_of_the_pool, postgresql_only
from db.endings import in_new_context
from django.db import OperationalError, ProgrammingError, connection, connections, transaction
from django.db.backends.postgresql import base
from testapp.models import Author

from django_aio import hold_connection, run, wait
from django_aio.db import leases

pytestmark = [pytest.mark.usefixtures("pooled"), postgresql_only]


def held():
    """Whether this chain has a physical connection."""
    return connection.connection is not None


async def sql(statement):
    async with connection.cursor() as cursor:
        await cursor.execute(statement)
        return await cursor.fetchall() if cursor.description else None


async def test_a_statement_of_the_orm_gives_its_connection_back():
    await Author.objects.acreate(name="a")
    assert not held()
    assert [author.name async for author in Author.objects.all()] == ["a"]
    await Author.objects.aget(name="a")
    await Author.objects.filter(name="a").aupdate(born=1)
    await Author.objects.abulk_create([Author(name="b")])
    assert not held()
    assert not await out_of_the_pool()


async def test_synchronous_code_of_the_chain_too():
    await run(Author.objects.create, name="a")
    assert not held()
    await sync_to_async(Author.objects.create)(name="b")
    assert not held()
    assert not await out_of_the_pool()


async def test_a_failed_statement_gives_its_connection_back():
    await Author.objects.acreate(name="a")
    with pytest.raises(Exception, match="unique"):
        await Author.objects.acreate(name="a")
    assert not held()
    assert not await out_of_the_pool()


def two_statements():
    assert Author.objects.first() is None
    assert not held()
    assert not Author.objects.exists()


async def test_statements_that_follow_each_other_share_a_lease():
    await Author.objects.afirst()
    pool = bridge_pool().pool
    before = pool.get_stats()["requests_num"]
    await run(two_statements)
    async with transaction.atomic():
        await Author.objects.afirst()
    await Author.objects.afirst()
    assert pool.get_stats()["requests_num"] == before
    assert not await out_of_the_pool()


async def test_who_waits_comes_before_the_next_statement():
    """The pool has four; a task between two statements gives its connection up."""
    order = []
    three, finished = asyncio.Barrier(4), asyncio.Event()

    async def hold():
        async with hold_connection():
            await three.wait()
            await finished.wait()

    def work():
        for name in ("first", "second"):
            assert Author.objects.first() is None
            order.append(name)

    async def other():
        await Author.objects.afirst()
        order.append("other")

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(hold())
        await three.wait()
        tasks = [group.create_task(run(work)), group.create_task(other())]
        await asyncio.wait(tasks)
        finished.set()
    assert order == ["first", "other", "second"]


async def test_a_connection_taken_by_hand_is_not_lent_again():
    def by_hand():
        two_statements()
        connection.ensure_connection()
        mine = connection.connection
        for _ in range(3):
            wait(asyncio.sleep(0))
        assert set(bridge_pool().out) == {mine}
        assert Author.objects.first() is None
        assert connection.connection is mine

    await run(by_hand)


async def test_a_cursor_of_ones_own_has_the_lease_and_keeps_it():
    def statements():
        before = bridge_pool().pool.get_stats()["requests_num"]
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return bridge_pool().pool.get_stats()["requests_num"] - before

    await Author.objects.afirst()
    assert await run(statements) == 0
    assert await out_of_the_pool() == {connection.connection}


@pytest.fixture
def kept(pooled, monkeypatch):
    """The loop takes nothing back by itself."""
    monkeypatch.setattr(leases, "_part", lambda wrapper, state: None)


@pytest.mark.usefixtures("kept")
async def test_what_was_kept_goes_back_before_another_thread_uses_the_chain():
    async def one_statement():
        await Author.objects.afirst()
        assert connection.aio.kept is not None

    def in_thread():
        assert connection.aio.kept is None
        Author.objects.first()
        async_to_sync(one_statement)()
        assert connection.aio.kept is None

    await Author.objects.afirst()
    assert connection.aio.kept is not None
    await sync_to_async(in_thread)()
    assert bridge_pool().out == {}


async def test_nothing_is_kept_on_another_loop():
    """Such a loop cannot give back to the pool of the chain's, which outlives it."""

    async def one_statement():
        assert asyncio.get_running_loop() is not loop
        await Author.objects.afirst()
        assert connection.aio.kept is None

    loop = asyncio.get_running_loop()
    await sync_to_async(async_to_sync(one_statement, force_new_loop=True))()
    assert not await out_of_the_pool()


@pytest.mark.usefixtures("kept")
async def test_what_was_kept_is_not_used_after_its_pool():
    def with_a_new_pool():
        Author.objects.first()
        connection.close_pool()
        Author.objects.first()
        return connection.aio.kept._pool

    before = await run(lambda: connection.pool)
    assert (await run(with_a_new_pool)) not in (None, before)


@pytest.mark.usefixtures("kept")
async def test_what_was_kept_goes_back_when_its_task_ends():
    await asyncio.create_task(Author.objects.afirst())
    assert not await out_of_the_pool()


@pytest.mark.usefixtures("kept")
async def test_a_connection_with_an_error_is_not_kept():
    with pytest.raises(ProgrammingError):
        await Author.objects.extra(where=["nonsense"]).afirst()
    assert bridge_pool().out == {}


async def test_waiting_elsewhere_holds_nothing():
    """Forty tasks, each between two statements at the same time, share a pool of four."""
    everyone = asyncio.Barrier(40)

    async def request():
        await Author.objects.afirst()
        await everyone.wait()
        await Author.objects.afirst()

    async with asyncio.timeout(20):
        await asyncio.gather(*(request() for _ in range(40)))


async def test_a_transaction_holds():
    async with transaction.atomic():
        await Author.objects.acreate(name="a")
        assert held()
        async with transaction.atomic():
            await Author.objects.acreate(name="b")
        assert held()
    assert not held()


async def test_a_rolled_back_transaction_gives_back():
    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await Author.objects.acreate(name="a")
            raise ZeroDivisionError
    assert not held()
    assert not await out_of_the_pool()


async def test_a_server_side_cursor_holds_until_it_is_closed():
    await Author.objects.abulk_create([Author(name=str(n)) for n in range(10)])
    rows = Author.objects.order_by("pk").aiterator(chunk_size=2)
    await anext(rows)
    assert held()
    await Author.objects.afirst()
    assert held()
    await rows.aclose()
    assert not held()


async def test_hold_connection():
    async with hold_connection() as wrapper:
        assert wrapper is connections["default"]
        first = wrapper.connection
        await Author.objects.afirst()
        async with hold_connection():
            await Author.objects.afirst()
        assert wrapper.connection is first
    assert not held()


async def test_settings_survive_in_hold_connection_only():
    """The ORM's statements in the block see the session; afterwards the pool has it back."""
    async with hold_connection() as wrapper:
        await run(wrapper.connection.execute, "SET application_name = 'held'")
        name = "SELECT current_setting('application_name')"
        rows = Author.objects.raw(f"SELECT 1 AS id, ({name}) AS name, 1 AS born")
        assert [author.name async for author in rows] == ["held"]
        await run(wrapper.connection.execute, "RESET application_name")


# State that user code may leave in a session, and how to see it.
SESSION = {
    "setting": ("SET search_path = pg_catalog", "SHOW search_path", "pg_catalog"),
    "temporary table": (
        "CREATE TEMPORARY TABLE mine AS SELECT 7 AS n",
        "SELECT to_regclass('pg_temp.mine')::text",
        "mine",
    ),
    "advisory lock": (
        "SELECT pg_advisory_lock(42)",
        "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' "
        "AND objid = 42 AND pid = pg_backend_pid()",
        "1",
    ),
    "role": ("SET ROLE pg_monitor", "SELECT current_user::text", "pg_monitor"),
}


@pytest.mark.parametrize("kind", SESSION)
async def test_session_state_of_a_raw_cursor(kind):
    """Never lost within the chain and its tasks, never seen by another one, then or later."""
    leave, look, expected = SESSION[kind]
    seen = []

    async def chain():
        await sql(leave)
        for _ in range(3):
            await asyncio.gather(*(in_new_context(other()) for _ in range(6)))
            seen.append((await sql(look))[0][0])
            seen.extend(await asyncio.gather(*(child() for _ in range(3))))

    async def child():
        return (await sql(look))[0][0]

    async def other():
        ((value,),) = await sql(look)
        assert value != expected

    await in_new_context(chain())
    assert seen == [expected] * 12
    await asyncio.gather(*(in_new_context(other()) for _ in range(30)))


@pytest.mark.parametrize("way", ["coroutine", "bridged", "guest thread"])
async def test_a_raw_cursor_pins(way):
    def take():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    calls = {
        "coroutine": lambda: sql("SELECT 1"),
        "bridged": lambda: run(take),
        "guest thread": lambda: sync_to_async(take)(),
    }
    await calls[way]()
    assert held()
    first = connection.connection
    await Author.objects.afirst()
    assert connection.connection is first
    await run(connection.close)
    assert bridge_pool().out == {}


class TenantWrapper(base.DatabaseWrapper):
    """An engine of a third party, which keeps session state of its own."""


async def test_an_engine_that_is_not_djangos_keeps_its_connection(monkeypatch):
    monkeypatch.setattr(
        connections,
        "create_connection",
        lambda alias: TenantWrapper(connections.settings[alias], alias),
    )
    await Author.objects.afirst()
    assert held()
    first = connection.connection
    await Author.objects.afirst()
    assert connection.connection is first


async def test_guest_threads_share_the_bound():
    """Eight threads and eight tasks at once, on four connections."""
    pids = set()

    def in_thread():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pids.add(cursor.fetchone()[0])

    async def chain(threaded):
        if threaded:
            await sync_to_async(in_thread, thread_sensitive=False)()
        else:
            pids.add((await sql("SELECT pg_backend_pid()"))[0][0])

    await asyncio.gather(*(asyncio.create_task(chain(threaded)) for threaded in [True, False] * 8))
    assert len(pids) <= 4


async def test_requests_share_the_pool():
    author = await Author.objects.acreate(name="a")
    responses = await asyncio.gather(
        *(Client().get(f"/row/{author.pk}/") for _ in range(30)),
        *(Client().get("/untrusted/") for _ in range(10)),
    )
    assert {response.status for response in responses} == {200}
    assert bridge_pool().out == {}


async def test_an_exhausted_pool_says_who_holds_what(monkeypatch):
    options = {"pool": {"min_size": 0, "max_size": 1, "timeout": 0.05}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)

    async def hold():
        async with transaction.atomic():
            await Author.objects.afirst()
            holding.set()
            await release.wait()

    holding, release = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(hold(), name="the holder")
    await holding.wait()
    with pytest.raises(
        OperationalError, match=r"'default'.*max_size 1.*task 'the holder' \(.*hold"
    ):
        await Author.objects.afirst()
    release.set()
    await task
    await Author.objects.afirst()


async def test_ten_statements_are_on_the_server_at_once(monkeypatch):
    """All of them wait for one lock: if they ran in sequence, the second would never come."""
    options = {"pool": {"min_size": 0, "max_size": 20, "timeout": 20}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    await sql("SELECT pg_advisory_lock(7)")
    waiting = [in_new_context(sql("SELECT pg_advisory_xact_lock_shared(7)")) for _ in range(10)]
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND objid = 7"
    async with asyncio.timeout(20):
        while (await sql(blocked))[0][0] < 10:
            pass
    await sql("SELECT pg_advisory_unlock(7)")
    await asyncio.gather(*waiting)


def test_ten_loops_in_a_row():
    for number in range(10):
        author = asyncio.run(Author.objects.acreate(name=str(number)))
        assert author.pk
    assert Author.objects.count() == 10


def test_two_loops_in_two_threads():
    """Each has a pool of its own, and both are closed with their loops."""
    both = threading.Barrier(2)
    results = []

    async def work(name):
        await Author.objects.acreate(name=name)
        await asyncio.to_thread(both.wait, 10)
        results.append(await Author.objects.acount())

    threads = [threading.Thread(target=lambda n=n: asyncio.run(work(n))) for n in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [2, 2]


def test_the_first_statement_of_a_process():
    """Django asks the server's version while it connects, once in a process."""
    from django.db.backends.base import base as backend

    checked = set(backend.RAN_DB_VERSION_CHECK)
    backend.RAN_DB_VERSION_CHECK.clear()
    try:
        assert asyncio.run(Author.objects.acount()) == 0
    finally:
        backend.RAN_DB_VERSION_CHECK.update(checked)


async def test_closing_ends_what_a_raw_cursor_began():
    await sql("SELECT 1")
    assert held()
    await run(connection.close)
    await Author.objects.afirst()
    assert not held()
