"""What a statement does that outlives its session: nothing to whoever has the connection next."""

import asyncio

import pytest
from conftest import postgresql_only
from django.db import close_old_connections, connection, connections, transaction

from django_aio import run, wait

pytestmark = [pytest.mark.usefixtures("db"), postgresql_only]

SET = "SELECT set_config('app.tenant', 'ada', false)"


def sql(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


async def begun(task):
    """Wait until the task has its turn in the session."""
    while connections["default"].aio.turns.holder is not task:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)


async def test_no_other_chain_has_an_object_that_somebody_uses():
    """A request closes its connection while its task has a statement running: gather() does so."""
    left = {}

    async def request():
        await run(sql, SET)
        left["wrapper"] = connections["default"]
        left["task"] = asyncio.create_task(run(sql, "SELECT pg_sleep(30)"))
        await begun(left["task"])
        await run(close_old_connections)
        assert connections["default"].connection is None

    async def another():
        async with transaction.atomic():
            await run(sql, "SELECT 1")
            left["task"].cancel()
            await asyncio.wait([left["task"]])
            assert connections["default"] is not left["wrapper"]
            return await run(sql, "SELECT 2")

    await asyncio.create_task(request())
    assert await asyncio.create_task(another()) == 2


async def test_a_late_cancellation_spoils_no_later_transaction():
    cancelled, goes_on = asyncio.Event(), asyncio.Event()

    def slowly(execute, *statement):
        if asyncio.current_task() is not task:
            return execute(*statement)
        try:
            wait(asyncio.Event().wait())
        finally:
            cancelled.set()
            wait(goes_on.wait())

    def waiting():
        with connection.execute_wrapper(slowly):
            sql("SELECT 1")

    await run(sql, SET)
    task = asyncio.create_task(run(waiting))
    await begun(task)
    task.cancel()
    await cancelled.wait()
    await run(close_old_connections)
    async with transaction.atomic():
        statement = asyncio.create_task(run(sql, "SELECT pg_sleep(0.5)"))
        await begun(statement)
        goes_on.set()
        await asyncio.wait([task])
        await statement
        assert await run(sql, "SELECT 2") == 2
