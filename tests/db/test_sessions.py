"""R10: session state is seen by the chain that made it and its tasks, and by nobody else."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from conftest import postgresql_only
from db.endings import in_new_context
from db.states import aseen, seen
from django.db import (
    OperationalError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.backends.signals import connection_created
from django.db.transaction import TransactionManagementError
from django.db.utils import InterfaceError
from testapp.models import Author

from django_aio import hold_connection, release_connection, run

pytestmark = [pytest.mark.usefixtures("db"), postgresql_only]


def sql(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


# What code may leave in a session, and how the ORM's own statements would meet it.
STATES = {
    "variable": (
        "SELECT set_config('app.tenant', 'ada', false)",
        # Once set, such a variable is empty after a reset, and not NULL as before.
        "coalesce(current_setting('app.tenant', true), '')",
    ),
    "role": ("SET ROLE pg_monitor", "current_user::text"),
    "search path": ("SET search_path = pg_catalog, public", "current_schemas(false)::text"),
    "temporary table": ("CREATE TEMPORARY TABLE mine (n int)", "to_regclass('pg_temp.mine')::text"),
    "advisory lock": (
        "SELECT pg_advisory_lock(42)",
        "(SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 "
        "AND pid = pg_backend_pid() AND granted)",
    ),
}
# Where something is set, in code that acts for the request.
SETTERS = {
    "coroutine": lambda statement: run(sql, statement),
    "thread": lambda statement: sync_to_async(sql)(statement),
    "other thread": lambda statement: sync_to_async(sql, thread_sensitive=False)(statement),
}


async def of_request(look):
    """What all that belongs to the request sees, one way after the other."""
    found = [
        await aseen(look),
        await sync_to_async(seen)(look),
        await asyncio.to_thread(seen, look),
    ]
    found += await asyncio.gather(*(aseen(look) for _ in range(3)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(sync_to_async(seen)(look)) for _ in range(2)]
    found += [task.result() for task in tasks]
    async with transaction.atomic():
        found.append(await asyncio.create_task(aseen(look)))

    async def in_its_own_block():
        async with transaction.atomic():
            return await aseen(look)

    return found + await asyncio.gather(in_its_own_block(), in_its_own_block(), aseen(look))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("setter", SETTERS)
async def test_who_sees_it(kept, state, setter):
    statement, look = STATES[state]
    is_set, looked = asyncio.Event(), asyncio.Event()

    async def request():
        await SETTERS[setter](statement)
        is_set.set()
        await looked.wait()
        return await of_request(look)

    before = await in_new_context(aseen(look))
    task = in_new_context(request())
    await is_set.wait()
    for concurrent in await asyncio.gather(*(in_new_context(aseen(look)) for _ in range(3))):
        assert concurrent == before
    looked.set()
    mine = await task
    assert len(set(mine)) == 1
    assert mine[0] != before
    for _ in range(8):
        assert await in_new_context(aseen(look)) == before


@pytest.fixture
def tenants(kept, monkeypatch):
    """A third party's engine, with a schema on the connection object."""
    for tenant in ("ada", "bob"):
        sql(f"CREATE SCHEMA {tenant}")
        sql(f"CREATE TABLE {tenant}.here AS SELECT '{tenant}'::text AS name")
    sql("CREATE TABLE public.here AS SELECT 'nobody'::text AS name")
    connections.close_all()
    del connections["default"]
    monkeypatch.setitem(connections.settings["default"], "ENGINE", "tenant_engine")
    yield
    connections.close_all()
    with contextlib.suppress(AttributeError):
        del connections["default"]
    monkeypatch.undo()
    sql("DROP SCHEMA ada, bob CASCADE")
    sql("DROP TABLE public.here")


LOOK = "(SELECT name FROM here)"


@pytest.mark.parametrize("at_a_time", [1, 10])
async def test_tasks_that_are_the_first_to_use_an_engine_with_a_tenant(tenants, at_a_time):
    """One of them opens the connection, the others wait for it."""

    async def request(tenant):
        connection.set_schema(tenant)
        return await asyncio.gather(*(aseen(LOOK) for _ in range(4)))

    for _ in range(3):
        names = ["ada", "bob"] * 5
        requests = (in_new_context(request(name)) for name in names[:at_a_time])
        assert await asyncio.gather(*requests) == [[name] * 4 for name in names[:at_a_time]]


async def test_and_a_receiver_that_prepares_it_in_a_thread(tenants):
    def prepare(connection, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    async def request():
        connection.set_schema("ada")
        return await asyncio.gather(*(aseen(LOOK) for _ in range(4)))

    connection_created.connect(prepare)
    try:
        async with asyncio.timeout(10):
            assert await in_new_context(request()) == ["ada"] * 4
    finally:
        connection_created.disconnect(prepare)


@pytest.mark.parametrize("close", [close_old_connections, lambda: connection.close()])
async def test_a_tenant_stays_on_the_connection_object_when_that_is_closed(tenants, close):
    async def request():
        connection.set_schema("ada")
        before = await aseen(LOOK)
        await sync_to_async(close)()
        return [before, *await asyncio.gather(aseen(LOOK), aseen(LOOK)), await aseen(LOOK)]

    assert await in_new_context(request()) == ["ada"] * 4


async def test_an_engine_with_a_tenant_on_the_connection(tenants):
    look = LOOK

    async def request(tenant):
        if tenant != "nobody":
            connection.set_schema(tenant)
        return set(await of_request(look))

    for _ in range(3):
        wanted = ["ada", "bob", "nobody", "ada"]
        found = await asyncio.gather(*(in_new_context(request(tenant)) for tenant in wanted))
        assert found == [{tenant} for tenant in wanted]


async def test_release_connection(kept):
    """Then the chain's tasks, and the chain itself, have connections without the state."""
    statement, look = STATES["variable"]

    async def request():
        await run(sql, statement)
        before = await asyncio.create_task(aseen(look))
        await release_connection()
        after = await asyncio.gather(*(aseen(look) for _ in range(3)))
        return before, after

    before, after = await in_new_context(request())
    assert before == "ada"
    assert "ada" not in after


async def test_release_connection_where_it_cannot():
    async with transaction.atomic():
        await run(sql, "SELECT 1")
        with pytest.raises(TransactionManagementError, match="outside of 'atomic'"):
            await release_connection()
    async with hold_connection():
        with pytest.raises(InterfaceError, match="hold_connection"):
            await release_connection()

    async def child():
        await Author.objects.acount()
        with pytest.raises(InterfaceError, match="Only the task"):
            await release_connection()

    await run(sql, "SELECT 1")
    await asyncio.create_task(child())
    await release_connection()
    await release_connection()


async def test_a_task_that_outlives_the_request(kept):
    """It cannot go on where it has been; one that begins only then has its own connection."""
    statement, look = STATES["variable"]
    tasks, used, goes_on = [], asyncio.Event(), asyncio.Event()

    async def user():
        assert await aseen(look) == "ada"
        used.set()
        await goes_on.wait()
        with pytest.raises(InterfaceError, match="given back"):
            await aseen(look)

    async def late():
        await goes_on.wait()
        return await aseen(look)

    async def request():
        await run(sql, statement)
        tasks.extend(asyncio.create_task(each()) for each in (user, late))
        await used.wait()

    await in_new_context(request())
    goes_on.set()
    _, found = await asyncio.gather(*tasks)
    assert found != "ada"


async def test_a_connection_with_state_that_is_lost(kept):
    """Another one would not have the state: the request fails, and the next one does not."""
    statement, look = STATES["variable"]

    async def request():
        await run(sql, statement)
        pid = await run(sql, "SELECT pg_backend_pid()")
        await in_new_context(run(sql, f"SELECT pg_terminate_backend({pid}, 5000)"))
        for _ in range(2):
            with pytest.raises(OperationalError):
                await aseen(look)
        await run(connection.close)
        return await aseen(look)

    assert await in_new_context(request()) != "ada"


async def test_what_receivers_of_connection_created_set_is_not_the_requests(kept):
    from django.db.backends.signals import connection_created

    def prepare(connection, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('app.tenant', 'everybody', false)")

    look = STATES["variable"][1]

    async def request():
        await Author.objects.acount()
        assert connection.aio.session is None
        return await aseen(look)

    connection_created.connect(prepare)
    try:
        for _ in range(6):
            assert await in_new_context(request()) == "everybody"
    finally:
        connection_created.disconnect(prepare)


async def hold_rows():
    async for _ in Author.objects.order_by("pk").aiterator(chunk_size=2):
        await gather_two()


async def hold():
    async with hold_connection():
        await gather_two()


async def hold_state():
    await run(sql, "SELECT 1")
    await gather_two()


async def hold_transaction():
    async with transaction.atomic():
        await Author.objects.acount()
        await gather_two()


async def gather_two():
    async def in_a_block():
        async with transaction.atomic():
            await Author.objects.acount()

    await asyncio.gather(Author.objects.acount(), in_a_block(), Author.objects.acount())


@pytest.mark.parametrize("holding", [hold_rows, hold, hold_state, hold_transaction])
async def test_who_holds_a_connection_does_not_wait_for_others_that_do(pooled, holding):
    """Twelve at a time, a pool of four, each with tasks of its own."""
    await Author.objects.abulk_create([Author(name=str(number)) for number in range(5)])
    async with asyncio.timeout(10):
        await asyncio.gather(*(in_new_context(holding()) for _ in range(12)))


THREADS = {
    "sync_to_async": lambda: sync_to_async(Author.objects.count)(),
    "a thread each": lambda: sync_to_async(Author.objects.count, thread_sensitive=False)(),
    "to_thread": lambda: asyncio.to_thread(Author.objects.count),
}


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("thread", THREADS)
async def test_nor_do_the_threads_of_its_tasks(pooled, monkeypatch, size, thread):
    options = {"pool": {"min_size": 1, "max_size": size, "timeout": 10}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(36))  # enough: see limits
    await Author.objects.abulk_create([Author(name=str(number)) for number in range(5)])

    async def read():
        async with ThreadSensitiveContext():  # as a request does
            async for _ in Author.objects.aiterator(chunk_size=2):
                assert await asyncio.gather(*(THREADS[thread]() for _ in range(3))) == [5] * 3

    async with asyncio.timeout(20):
        await asyncio.gather(*(read() for _ in range(12)))


async def test_a_loan_that_ends_while_somebody_waits_for_it(pooled, monkeypatch):
    """His block begins on a connection of his own."""
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 10}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    await Author.objects.abulk_create([Author(name=str(number)) for number in range(5)])
    inside, goes_on = asyncio.Event(), asyncio.Event()

    async def first():
        async with transaction.atomic():
            await Author.objects.acreate(name="first")
            inside.set()
            await goes_on.wait()

    async def second():
        async with transaction.atomic():
            await Author.objects.acreate(name="second")

    async def parent():
        async for _ in Author.objects.order_by("pk").aiterator(chunk_size=2):
            tasks = [asyncio.create_task(first())]
            await inside.wait()
            tasks.append(asyncio.create_task(second()))
            await asyncio.sleep(0.01)
            break
        goes_on.set()
        await asyncio.gather(*tasks)

    async with asyncio.timeout(10):
        await in_new_context(parent())
    assert await Author.objects.filter(name__in=["first", "second"]).acount() == 2


def leave_modes():
    sql("SELECT 1")
    transaction.set_autocommit(False)
    connection.connection.rollback()
    connection.connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.connection.read_only = True


async def test_the_modes_of_transactions_are_reset(pooled, monkeypatch):
    """Configuring the session anew is not rolled back with them."""
    monkeypatch.setitem(connections.settings["default"], "TIME_ZONE", "Asia/Tokyo")
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 10}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    look = "current_setting('timezone') || ' ' || current_setting('transaction_isolation')"

    async def request():
        async with transaction.atomic():
            await Author.objects.filter(pk=0).aupdate(born=1)
            return await aseen(look)

    before = await in_new_context(request())
    await in_new_context(run(leave_modes))
    assert [await in_new_context(request()) for _ in range(3)] == [before] * 3


async def test_a_mark_that_is_left_on_the_connection_object(pooled):
    """Code outside of a transaction may set it; the next request is not refused for it."""

    async def request(*, marks):
        await Author.objects.acount()
        if marks:
            connection.needs_rollback = True

    await in_new_context(request(marks=True))
    await in_new_context(request(marks=False))


async def test_what_is_set_on_the_connection_object(kept):
    """It ends with its request, set before a connection was open or after."""

    async def request(tenant):
        found = [getattr(connection, name, None) for name in ("tenant", "customer")]
        if tenant is not None:
            connection.tenant = tenant
        await Author.objects.acount()
        connection.customer = tenant
        return found

    await in_new_context(request("ada"))
    assert await in_new_context(request(None)) == [None, None]
    assert await in_new_context(request(None)) == [None, None]


@pytest.fixture
def receiver():
    """Sets an attribute of every connection object that connects."""

    def set_it(connection, **kwargs):
        connection.shard = "first"

    connection_created.connect(set_it)
    yield
    connection_created.disconnect(set_it)


async def test_what_a_receiver_of_connection_created_sets_on_it_stays(kept, receiver):
    async def request():
        await Author.objects.acount()
        return connection.shard

    assert [await in_new_context(request()) for _ in range(3)] == ["first"] * 3
