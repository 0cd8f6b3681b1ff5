"""R4: a pooled connection is held for one statement, and for longer wherever that matters."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgi import Client
from asgiref.sync import async_to_sync, sync_to_async
from conftest import out_of_the_pool, postgresql_only
from django.contrib.postgres.signals import register_type_handlers
from django.db import OperationalError, ProgrammingError, connection, connections, transaction
from django.db.backends.postgresql import base
from django.db.backends.signals import connection_created
from psycopg import IsolationLevel
from testapp.models import Author

from django_aio import hold_connection, run, wait
from django_aio.db import pool
from django_aio.db.backends import pools

pytestmark = [pytest.mark.usefixtures("pooled"), postgresql_only]


def bridge_pool():
    return pool.store().pools["default"]


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


def in_a_chain_of_its_own(function):
    """`run(function)` in a task of its own."""
    return asyncio.create_task(run(function))


async def all_returned():
    """Wait until psycopg_pool has what goes back to it."""
    while pools._returning:
        await asyncio.wait(pools._returning)


def served_by(meet=None):
    """Run a statement of the ORM, after `meet()`. Returns the physical connection that ran it."""
    used = []

    def look(execute, *args):
        used.append(connection.connection)
        if meet is not None:
            wait(meet())
        return execute(*args)

    with connection.execute_wrapper(look):
        Author.objects.first()
    return used[0]


@pytest.fixture
def leases_of_the_pool(pooled):
    """How many leases psycopg_pool has given."""

    def count():
        return bridge_pool().pool.get_stats()["requests_num"]

    return count


async def test_what_comes_back_stays_at_hand_for_the_next_chain(leases_of_the_pool):
    first = await in_a_chain_of_its_own(served_by)
    before = leases_of_the_pool()
    for _ in range(3):
        assert not await out_of_the_pool()
        assert await in_a_chain_of_its_own(served_by) is first
        async with transaction.atomic():
            assert connection.connection is first
    assert leases_of_the_pool() == before


async def two_at_hand():
    """Leave two connections at hand."""
    meet = asyncio.Barrier(2).wait
    tasks = [asyncio.create_task(run(served_by, meet)) for _ in range(2)]
    both = await asyncio.gather(*tasks)
    assert set(bridge_pool()._at_hand) == set(both)
    return both


async def test_after_an_error_the_next_chain_connects_anew():
    def fail():
        with pytest.raises(ProgrammingError):
            Author.objects.extra(where=["nonsense"]).first()
        assert connection.errors_occurred
        return connections["default"]

    def look():
        served_by()
        return connections["default"], connection.errors_occurred

    await two_at_hand()
    wrapper = await in_a_chain_of_its_own(fail)
    assert await in_a_chain_of_its_own(look) == (wrapper, False)


@pytest.fixture
def one(pooled, monkeypatch):
    """A pool of one connection."""
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 20, "max_waiting": 3}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)


class Holder:
    """A chain that has the one connection for a statement, until it is told to go on."""

    def __init__(self):
        self.holding, self.go_on = asyncio.Event(), asyncio.Event()

    async def __aenter__(self):
        self.task = asyncio.create_task(run(served_by, self._hold))
        await self.holding.wait()
        return self

    async def _hold(self):
        self.holding.set()
        await self.go_on.wait()

    async def __aexit__(self, *exc):
        self.go_on.set()
        await self.task


async def waiting(count):
    """Let the loop go on until `count` tasks wait for a connection."""
    async with asyncio.timeout(20):
        while bridge_pool().waiting != count:  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0)


@pytest.mark.usefixtures("one")
async def test_who_waits_is_given_what_comes_back_in_turn(leases_of_the_pool):
    order = []

    def work(number):
        face = served_by()
        order.append(number)
        return face

    async with Holder() as holder:
        tasks = []
        for number in range(3):
            tasks.append(asyncio.create_task(run(work, number)))
            await waiting(number + 1)
        before = leases_of_the_pool()
    assert set(await asyncio.gather(*tasks)) == {await holder.task}
    assert order == [0, 1, 2]
    assert leases_of_the_pool() == before
    assert await in_a_chain_of_its_own(served_by) is await holder.task


@pytest.mark.usefixtures("one")
async def test_no_more_wait_than_may():
    async with Holder():
        tasks = [asyncio.create_task(run(served_by)) for _ in range(3)]
        await waiting(3)
        with pytest.raises(OperationalError, match="already 3 requests waiting"):
            await Author.objects.afirst()
    await asyncio.gather(*tasks)


@pytest.mark.usefixtures("one")
async def test_who_was_cancelled_while_it_waited_is_given_nothing():
    async with Holder() as holder:
        leaving, staying = (asyncio.create_task(run(served_by)) for _ in range(2))
        await waiting(2)
        leaving.cancel()
        await waiting(1)
    assert await staying is await holder.task
    assert leaving.cancelled()
    assert not await out_of_the_pool()


@pytest.fixture
def hand_over(one):
    """Have something done before, or after, a connection is handed over, in the same step."""

    def act(before=lambda: None, after=lambda: None):
        bridge = bridge_pool()
        original = bridge._hand_over

        def _hand_over(face):
            bridge._hand_over = original
            before()
            found = original(face)
            after()
            return found

        bridge._hand_over = _hand_over

    return act


@pytest.mark.parametrize("others", [0, 1])
async def test_who_is_cancelled_when_it_has_been_given_one_passes_it_on(others, hand_over):
    async with Holder() as holder:
        leaving = asyncio.create_task(run(served_by))
        await waiting(1)
        given = bridge_pool()._waiters[0]
        staying = [asyncio.create_task(run(served_by)) for _ in range(others)]
        await waiting(1 + others)
        hand_over(after=leaving.cancel)
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert given.result() is await holder.task
    for task in [*staying, in_a_chain_of_its_own(served_by)]:
        assert await task is await holder.task
    assert not await out_of_the_pool()


async def test_whose_time_has_just_run_out_is_given_nothing(hand_over):
    async with Holder() as holder:
        leaving, staying = (asyncio.create_task(run(served_by)) for _ in range(2))
        await waiting(2)
        first = bridge_pool()._waiters[0]
        hand_over(before=lambda: pools._expire(first, 20))
    with pytest.raises(OperationalError, match=r"after 20.00 sec.*Held by"):
        await leaving
    assert await staying is await holder.task
    assert not await out_of_the_pool()


@pytest.mark.usefixtures("one")
async def test_who_waits_is_given_one_that_the_pool_must_see_first(monkeypatch):
    async with Holder() as holder:
        task = asyncio.create_task(run(served_by))
        await waiting(1)
        monkeypatch.setattr(pools, "MAX_AT_HAND", 0)
    assert await task is await holder.task


@pytest.mark.usefixtures("one")
async def test_who_waits_is_given_a_new_one_for_one_that_broke():
    def end():
        with connection.cursor() as cursor, pytest.raises(OperationalError):
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        wait(waiting(1))

    ending = asyncio.create_task(run(end))
    await asyncio.sleep(0)
    face = await in_a_chain_of_its_own(served_by)
    assert not face.closed
    await ending


@pytest.mark.usefixtures("one")
async def test_who_waits_hears_that_the_pool_is_closed():
    async with Holder():
        task = asyncio.create_task(run(served_by))
        await waiting(1)
        await bridge_pool().aclose()
        with pytest.raises(OperationalError, match="closed"):
            await task


@pytest.mark.parametrize("option", ["check", "reset"])
async def test_a_pool_that_looks_at_every_lease_does_so(option, monkeypatch, leases_of_the_pool):
    looked = asyncio.Queue()
    options = {"pool": {"max_size": 4, option: looked.put_nowait}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    for number in range(1, 4):
        await in_a_chain_of_its_own(served_by)
        await all_returned()
        assert leases_of_the_pool() == number
    async with asyncio.timeout(20):
        for _ in range(3):
            await looked.get()


async def test_health_checks_look_at_every_lease(monkeypatch, leases_of_the_pool):
    monkeypatch.setitem(connections.settings["default"], "CONN_HEALTH_CHECKS", True)
    for number in range(1, 4):
        await in_a_chain_of_its_own(served_by)
        assert leases_of_the_pool() == number


async def test_the_pool_sees_a_busy_connection_again(monkeypatch, leases_of_the_pool):
    monkeypatch.setattr(pools, "MAX_AT_HAND", 0)
    for number in range(1, 4):
        await in_a_chain_of_its_own(served_by)
        assert leases_of_the_pool() == number


async def test_the_pool_gets_what_nobody_uses():
    """The pool can close it then. A younger one stays, and is looked at later."""
    first, second = await two_at_hand()
    assert first is not second
    at_hand = bridge_pool()._at_hand
    first.lent_at -= pools.MAX_AT_HAND
    bridge_pool()._tidy()
    assert list(at_hand) == [second]
    await all_returned()
    assert first.twin in bridge_pool().pool._pool
    again = bridge_pool()._tidying
    assert not again.cancelled()
    second.lent_at -= pools.MAX_AT_HAND
    bridge_pool()._tidy()
    assert not at_hand
    assert bridge_pool()._tidying is None


async def test_what_is_at_hand_is_closed_with_the_pool():
    face = await in_a_chain_of_its_own(served_by)
    bridge = bridge_pool()
    await pool.close_store()
    assert face.closed
    assert bridge._tidying.cancelled()
    assert await in_a_chain_of_its_own(served_by) is not face


def test_what_is_at_hand_is_closed_with_its_loop():
    face = asyncio.run(run(served_by))
    assert face.closed


async def test_a_receiver_hears_of_the_connection_of_every_chain():
    heard = []

    def receiver(connection, **kwargs):
        heard.append(connection.connection)

    connection_created.connect(receiver)
    try:
        await in_a_chain_of_its_own(served_by)
        heard.clear()
        faces = [await in_a_chain_of_its_own(served_by) for _ in range(3)]
    finally:
        connection_created.disconnect(receiver)
    assert heard == faces
    assert await in_a_chain_of_its_own(served_by) in faces
    assert len(heard) == 3


async def test_djangos_own_receivers_hear_of_a_physical_connection_once(leases_of_the_pool):
    connection_created.connect(register_type_handlers)
    try:
        await in_a_chain_of_its_own(served_by)
        before = leases_of_the_pool()  # the first time they ask the server for its types
        for _ in range(3):
            await in_a_chain_of_its_own(served_by)
    finally:
        connection_created.disconnect(register_type_handlers)
    assert leases_of_the_pool() <= before + 1


async def test_the_next_chain_commits_whatever_was_set_on_a_connection_by_hand():
    async def set_by_hand():
        async with hold_connection() as wrapper:
            wrapper.connection.autocommit = False

    await asyncio.create_task(set_by_hand())
    await all_returned()
    await asyncio.create_task(Author.objects.acreate(name="a"))
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(Author.objects.count).result(20) == 1
        threads.submit(connections.close_all).result(20)


async def test_the_next_chain_has_the_isolation_level_of_the_settings(monkeypatch):
    serializable, any_level = IsolationLevel.SERIALIZABLE, IsolationLevel.READ_UNCOMMITTED
    options = {"pool": {"min_size": 1, "max_size": 1}, "isolation_level": serializable}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)

    async def set_by_hand():
        async with hold_connection() as wrapper:
            assert wrapper.connection.isolation_level is serializable
            wrapper.connection.isolation_level = any_level

    def level():
        return served_by().isolation_level

    await asyncio.create_task(set_by_hand())
    await all_returned()
    assert await in_a_chain_of_its_own(level) is serializable


async def test_who_closed_a_connection_in_a_transaction_connects_anew():
    def close():
        with transaction.atomic():
            connection.close()
        return connections["default"]

    def look():
        served_by()
        return connections["default"], connection.closed_in_transaction

    await two_at_hand()
    wrapper = await in_a_chain_of_its_own(close)
    assert bridge_pool()._at_hand
    assert await in_a_chain_of_its_own(look) == (wrapper, False)


async def test_a_mode_that_a_chain_set_is_its_own(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "AUTOCOMMIT", False)

    def set_it():
        Author.objects.first()
        connection.rollback()
        connection.set_autocommit(True)
        Author.objects.first()

    def look():
        served_by()
        return connection.autocommit

    await in_a_chain_of_its_own(set_it)
    assert bridge_pool()._at_hand
    assert not await in_a_chain_of_its_own(look)


async def test_without_autocommit_every_chain_connects(monkeypatch, leases_of_the_pool):
    monkeypatch.setitem(connections.settings["default"], "AUTOCOMMIT", False)
    for number in range(1, 4):
        await in_a_chain_of_its_own(served_by)
        assert leases_of_the_pool() == number


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
    monkeypatch.setattr(pool, "_part", lambda wrapper, state: None)


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
    """Never lost within the chain, whatever runs in between; never seen by another one."""
    leave, look, expected = SESSION[kind]
    seen = []

    async def chain():
        await sql(leave)
        for _ in range(3):
            await asyncio.gather(*(other() for _ in range(6)))
            seen.append((await sql(look))[0][0])
        if kind == "setting":
            await sql("RESET search_path")

    async def other():
        ((value,),) = await sql(look)
        assert value != expected

    await asyncio.create_task(chain())
    assert seen == [expected] * 3


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
    waiting = [
        asyncio.create_task(sql("SELECT pg_advisory_xact_lock_shared(7)")) for _ in range(10)
    ]
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
