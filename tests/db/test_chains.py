"""Every task has its own connections, and leaves none behind."""

import asyncio
import contextvars

import pytest
from conftest import postgresql_only
from django.db import close_old_connections, connection, connections, reset_queries, transaction
from django.db.backends.signals import connection_created
from django.db.utils import ConnectionDoesNotExist
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext
from psycopg import IsolationLevel
from testapp.models import Author

from django_aio import hold_connection, loops, run
from django_aio.db import chains

pytestmark = pytest.mark.usefixtures("db")


async def physical():
    """The driver's connection of this task."""
    await Author.objects.aexists()
    return connections["default"].connection


async def test_a_task_keeps_its_connection():
    assert await physical() is await physical()
    assert connections["default"] is connections["default"]
    assert await run(lambda: connections["default"]) is connections["default"]


async def test_tasks_do_not_share():
    both = asyncio.Barrier(2)

    async def one():
        found = await physical()
        await both.wait()
        return found

    first, second = await asyncio.gather(one(), one())
    assert first is not second


async def test_a_child_task_does_not_inherit():
    own = await physical()
    assert await asyncio.create_task(physical()) is not own


async def test_a_copied_context_of_the_same_task_finds_its_chain():
    own = connections["default"]
    assert contextvars.copy_context().run(lambda: connections["default"]) is own
    found = contextvars.Context().run(lambda: connections["default"])
    assert found is own


async def test_unknown_alias():
    with pytest.raises(ConnectionDoesNotExist, match="nowhere"):
        connections["nowhere"]


async def test_initialized_connections():
    assert connections.all(initialized_only=True) == []
    own = connections["default"]
    assert connections.all(initialized_only=True) == [own]
    assert connections.all() == [own]


async def test_set_and_delete():
    own = connections["default"]
    other = own.copy()
    connections["default"] = other
    assert connections["default"] is other
    del connections["default"]
    with pytest.raises(AttributeError):
        del connections["default"]
    assert connections["default"] is not other


async def test_close_all_and_reopen():
    await physical()
    await run(connections.close_all)
    assert connection.connection is None
    assert await physical() is not None


async def test_queries_are_logged_for_the_task():
    def count():
        with CaptureQueriesContext(connection) as captured:
            Author.objects.count()
            list(Author.objects.all())
        return len(captured)

    await run(reset_queries)
    assert await run(count) == 2


async def test_execute_wrapper():
    seen = []

    def wrapper(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        await Author.objects.acount()
    await Author.objects.acount()
    assert len(seen) == 1


async def test_the_end_of_a_task_closes():
    async def task():
        await physical()
        return connections["default"]

    wrapper = await asyncio.create_task(task())
    await asyncio.sleep(0)
    assert wrapper.connection is None
    assert len(chains.tasks) == 0


async def test_kept_for_the_next_chain(monkeypatch):
    """CONN_MAX_AGE: an idle connection serves the next task of the loop."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    first = await asyncio.create_task(physical())
    await asyncio.sleep(0)
    assert await asyncio.create_task(physical()) is first
    await asyncio.sleep(0)
    await loops.close_store()


async def test_an_old_connection_is_not_kept(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)

    async def ageing():
        found = await physical()
        connection.close_at = 0
        return found

    first = await asyncio.create_task(ageing())
    await asyncio.sleep(0)
    assert await asyncio.create_task(physical()) is not first


async def test_a_connection_in_a_transaction_is_not_kept(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)

    async def forget():
        await transaction.atomic().__aenter__()
        await Author.objects.acreate(name="a")
        return connection.connection

    first = await asyncio.create_task(forget())
    await asyncio.sleep(0)
    assert await asyncio.create_task(physical()) is not first
    assert not await Author.objects.aexists()


async def test_close_old_connections_ends_a_request():
    await physical()
    await run(close_old_connections)
    assert connection.connection is None


def test_several_loops_in_a_row():
    for _ in range(3):
        assert asyncio.run(physical()) is not None
    assert not chains.tasks


async def test_a_callback_of_the_loop_belongs_to_no_task():
    found = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: found.set_result(connections["default"]))
    assert await found is not connections["default"]


@postgresql_only
async def test_nothing_is_left_on_the_server():
    async def work():
        await Author.objects.aexists()

    await asyncio.gather(*(work() for _ in range(20)))
    await Author.objects.aexists()
    async with connection.cursor() as cursor:
        for _ in range(100):
            await cursor.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if (await cursor.fetchone())[0] <= 1:  # the connection of the main thread
                return
    raise AssertionError("connections of ended tasks are open on the server")


async def test_hold_connection_without_a_pool():
    async with hold_connection() as wrapper:
        first = wrapper.connection
        await Author.objects.aexists()
        assert wrapper.connection is first
    assert await Author.objects.acount() == 0


async def test_connection_created_is_sent(monkeypatch):
    """For every connection of a chain, with its logical connection."""
    seen = []

    def created(connection, **kwargs):
        seen.append(connection)

    connection_created.connect(created)
    try:
        await physical()
        await asyncio.create_task(physical())
    finally:
        connection_created.disconnect(created)
    assert len(seen) == 2
    assert seen[0] is connections["default"]


@postgresql_only
async def test_health_checks(monkeypatch):
    """A kept connection that has died is replaced at its first use."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    monkeypatch.setitem(connections.settings["default"], "CONN_HEALTH_CHECKS", True)
    first = await asyncio.create_task(physical())
    await asyncio.sleep(0)
    first.pgconn.finish()
    assert await asyncio.create_task(physical()) is not first


@postgresql_only
async def test_isolation_level(monkeypatch):
    options = {"isolation_level": IsolationLevel.SERIALIZABLE}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    async with transaction.atomic(), connection.cursor() as cursor:
        await cursor.execute("SHOW transaction_isolation")
        assert await cursor.fetchone() == ("serializable",)


async def test_a_coroutine_may_close_a_response_while_its_connection_is_open(db):
    """Closing it asks each connection whether it is good still: a coroutine cannot wait for it."""
    async with hold_connection():
        await Author.objects.acount()
        HttpResponse().close()
        assert connection.connection is not None
        assert await Author.objects.acount() == 0
