"""R11: who watches a chain watches its tasks, sees each statement once, and nobody else's."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from db.endings import in_new_context
from django.db import connection, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from testapp.models import Author

from django_aio import run
from django_aio.db import observers
from django_aio.db.handler import begin_request

pytestmark = pytest.mark.usefixtures("db")


class Seen:
    """What an execute_wrapper() sees."""

    def __init__(self):
        self.statements = []

    def __call__(self, execute, sql, params, many, context):
        self.statements.append(sql)
        return execute(sql, params, many, context)


async def count(times=1):
    for _ in range(times):
        await Author.objects.acount()


async def nested():
    """A task's task."""
    await asyncio.gather(count(), count())


async def test_an_execute_wrapper_sees_tasks():
    seen = Seen()
    await count()
    with connection.execute_wrapper(seen):
        await count()
        await asyncio.gather(count(2), nested(), sync_to_async(Author.objects.count)())
        await asyncio.create_task(run(Author.objects.count))
        await in_new_context(count())  # somebody else's
    await asyncio.gather(count(), count())
    assert len(seen.statements) == 7


async def test_a_package_follows_to_the_connections_of_tasks():
    followed = []
    await count()
    observers.begin(connections["default"], follow=followed.append)
    await asyncio.gather(count(2), nested(), sync_to_async(Author.objects.count)())
    await in_new_context(count())  # somebody else's
    own = connections["default"]
    assert len(followed) == 4
    assert own not in followed


async def test_a_tasks_own_wrapper_is_its_own():
    outer, inner = Seen(), Seen()
    inside, looked = asyncio.Event(), asyncio.Event()

    async def watching():
        with connection.execute_wrapper(inner):
            await count()
            inside.set()
            await looked.wait()
            await count()
        await count()

    async def other():
        await inside.wait()
        await count()
        looked.set()

    with connection.execute_wrapper(outer):
        await asyncio.gather(watching(), other())
        await count()
    assert len(outer.statements) == 5
    assert len(inner.statements) == 2


async def test_a_wrapper_that_both_have_sees_a_statement_once():
    """As a receiver of `connection_created` adds it, to every connection."""
    seen = Seen()

    async def child():
        await run(connection.ensure_connection)
        connection.execute_wrappers.append(seen)
        await count()
        connection.execute_wrappers.pop()

    with connection.execute_wrapper(seen):
        await asyncio.create_task(child())
    assert len(seen.statements) == 1


async def test_the_log_has_what_tasks_did():
    await asyncio.gather(count(), count())
    with CaptureQueriesContext(connection) as queries:
        await count()
        await asyncio.gather(count(2), nested())
        async with transaction.atomic():
            await asyncio.create_task(count())
    assert sum("COUNT" in query["sql"] for query in queries) == 6
    await asyncio.gather(count(), count())
    assert sum("COUNT" in query["sql"] for query in queries) == 6


@override_settings(DEBUG=True)
async def test_with_debug_every_connection_is_logged():

    async def request():
        await count()
        await asyncio.gather(count(), nested())
        return [query for query in connection.queries if "COUNT" in query["sql"]]

    found = await asyncio.gather(*(in_new_context(request()) for _ in range(3)))
    assert [len(queries) for queries in found] == [4, 4, 4]


async def test_a_task_that_outlives_its_observer():
    """The connection object may be another request's by then."""
    goes_on = asyncio.Event()
    tasks = []

    async def late():
        await count()
        await goes_on.wait()
        await count()

    async def request():
        with CaptureQueriesContext(connection):
            await count()
            tasks.append(asyncio.create_task(late()))
            await asyncio.sleep(0)

    async def next_request():
        with CaptureQueriesContext(connection) as queries:
            await count()
            goes_on.set()
            await asyncio.wait(tasks)
        return len(queries)

    await in_new_context(request())
    assert await in_new_context(next_request()) == 1


@override_settings(DEBUG=True)
def test_who_has_watched_a_threads_connection_before_is_forgotten():
    """The context of the thread is that of all its loops: their chains would share its log."""
    with CaptureQueriesContext(connection):
        Author.objects.count()

    async def request():
        await count()
        return len(connection.queries)

    async def requests():
        return await asyncio.gather(request(), request())

    assert asyncio.run(requests()) == [1, 1]


@override_settings(DEBUG=True)
async def test_a_request_whose_tasks_are_the_first_to_query():
    """Its log is theirs, though it has used no connection itself."""

    async def request():
        begin_request()
        await asyncio.gather(Author.objects.acount(), Author.objects.acount())
        return [query for query in connection.queries if "COUNT" in query["sql"]]

    assert len(await asyncio.create_task(request())) == 2


@override_settings(DEBUG=True)
async def test_what_django_runs_to_log_a_statement_leaves_no_state():
    """SQLite quotes the parameters of what is logged, on a cursor of the client's."""

    async def own():
        return connections["default"]

    await Author.objects.acreate(name="a")
    assert connections["default"].aio.session is None
    first, second = await asyncio.gather(own(), own())
    assert first is not second
