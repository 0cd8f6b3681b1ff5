"""R10: what a project does past the cursors that it opens, and with the client's connection."""

import asyncio
import contextlib

import psycopg
import pytest
from conftest import all_returned, postgresql_only
from db.endings import in_new_context
from db.states import aseen
from django.db import connection, transaction
from django.db.backends.postgresql.base import Cursor
from django.db.models import F, Func, TextField, Value
from django.db.models.expressions import RawSQL
from testapp.models import Author

from django_aio import hold_connection, run
from django_aio.db import callers

pytestmark = [pytest.mark.usefixtures("db"), postgresql_only]

SET = "SELECT set_config('app.tenant', 'ada', false)"
LOOK = "current_setting('app.tenant', true)"


def by_the_client():
    connection.ensure_connection()
    connection.connection.execute(SET)


def by_the_client_in_a_block():
    with transaction.atomic():
        Author.objects.first()
        connection.connection.cursor().execute(SET)


def by_the_cursor_of_a_wrapper():
    def once(execute, sql, params, many, context):
        if sql != SET:
            context["cursor"].execute(SET)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(once):
        Author.objects.first()


def by_a_wrapper():
    def before(execute, sql, params, many, context):
        execute(SET, None, False, context)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(before):
        Author.objects.first()


def by_a_bare_cursor():
    connection.ensure_connection()
    with contextlib.closing(connection.create_cursor()) as cursor:
        cursor.execute(SET)


def by_a_private_cursor():
    with connection._cursor() as cursor:
        cursor.execute(SET)


def by_a_function():
    values = Value("app.tenant"), F("name"), Value(False)
    setting = Func(*values, function="SET_CONFIG", output_field=TextField())
    Author.objects.annotate(x=setting).values_list("x").first()


def by_an_expression():
    setting = RawSQL("set_config('app.tenant', %s, false)", ["ada"], output_field=TextField())
    Author.objects.annotate(x=setting).values_list("x").first()


def by_extra():
    list(Author.objects.extra(select={"x": "set_config('app.tenant', 'ada', false)"}).values("x"))


def by_the_clients_cursor():
    connection.ensure_connection()
    psycopg.ClientCursor(connection.connection).execute(SET)


def by_djangos_cursor():
    connection.ensure_connection()
    Cursor(connection.connection).execute(SET)


def by_raw():
    list(Author.objects.raw(f"SELECT 1 AS id, 1 AS born, ({SET}) AS name"))


def by_raw_that_is_no_query():
    with contextlib.suppress(Exception):  # it has no rows
        list(Author.objects.raw("SET app.tenant = 'ada'"))


WAYS = [
    by_the_client,
    by_the_client_in_a_block,
    by_the_cursor_of_a_wrapper,
    by_a_wrapper,
    by_a_bare_cursor,
    by_a_private_cursor,
    by_a_function,
    by_an_expression,
    by_extra,
    by_the_clients_cursor,
    by_djangos_cursor,
    by_raw,
    by_raw_that_is_no_query,
]


async def request(way):
    """Set something, and see what the request and its tasks find."""
    await run(way)
    return await asyncio.gather(aseen(LOOK), *(aseen(LOOK) for _ in range(3)))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_state_that_is_set_past_cursors(kept, way):
    await in_new_context(Author.objects.acreate(name="ada", born=1))
    assert await in_new_context(request(way)) == ["ada"] * 4
    assert not await in_new_context(aseen(LOOK))
    assert not await in_new_context(aseen(LOOK))


def in_passing():
    with connection.temporary_connection() as cursor:
        cursor.execute(SET)


async def test_a_connection_for_a_moment(kept):
    """Django closes it, which with a pool is to return it."""
    await in_new_context(run(in_passing))
    assert not await in_new_context(aseen(LOOK))


async def test_the_client_inside_hold_connection(kept):
    async def hold():
        async with hold_connection() as held:
            await run(held.connection.execute, SET)
            return await asyncio.gather(*(aseen(LOOK) for _ in range(3)))

    assert await in_new_context(hold()) == ["ada"] * 3
    assert not await in_new_context(aseen(LOOK))


heard = []


class Wrong(psycopg.adapt.Loader):
    def load(self, data):
        return "wrong"


# What no reset undoes.
ALTERATIONS = {
    "handler of notices": lambda client: client.add_notice_handler(heard.append),
    "adapter": lambda client: client.adapters.register_loader("text", Wrong),
    "type": lambda client: psycopg.types.TypeInfo("t", 25, 1009).register(client),
    "factory of rows": lambda client: setattr(client, "row_factory", psycopg.rows.dict_row),
    "attribute": lambda client: setattr(client, "tenant", "ada"),
    "isolation level": lambda client: setattr(
        client, "isolation_level", psycopg.IsolationLevel.SERIALIZABLE
    ),
}


def notify():
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'of the next'; END $$")
    return getattr(connection.connection, "tenant", None)


@pytest.mark.parametrize("raw", [False, True], ids=["alone", "raw cursor"])
@pytest.mark.parametrize("name", ALTERATIONS)
async def test_what_is_altered_on_the_clients_connection(kept, name, raw):
    async def look():
        found = await Author.objects.values_list("name", flat=True).aget()
        level = await aseen("current_setting('transaction_isolation')")
        return found, level, await run(notify)

    def alter():
        if raw:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        connection.ensure_connection()
        ALTERATIONS[name](connection.connection)

    await in_new_context(Author.objects.acreate(name="ada", born=1))
    before = await in_new_context(look())
    heard.clear()
    await in_new_context(run(alter))
    await all_returned()
    assert await in_new_context(look()) == before
    assert not heard


async def test_ordinary_use_alters_nothing(pooled):
    """So a pool keeps its connections, and resets those only that a raw cursor has used."""
    clients = set()

    async def use(*, raw):
        async with transaction.atomic():
            await Author.objects.acreate(name=f"author {len(clients)}", born=1)
            async for _ in Author.objects.aiterator():
                pass
            [each async for each in Author.objects.raw("SELECT * FROM testapp_author")]
            if raw:
                async with connection.cursor() as cursor:
                    await cursor.execute("SELECT 1")
            client = connection.connection
            clients.add(client.pgconn.backend_pid)
            assert client.touched is raw
            assert not client.is_altered

    for raw in (False, True, False, False):
        await in_new_context(use(raw=raw))
        await Author.objects.all().adelete()
    assert len(clients) <= 2


async def test_a_comment_of_a_wrapper_is_no_other_statement(pooled):
    def comment(execute, sql, params, many, context):
        return execute(f"/* page=books */ {sql} -- traced", params, many, context)

    def look():
        with connection.execute_wrapper(comment):
            Author.objects.first()
        with transaction.atomic():
            Author.objects.first()
            return connection.connection.touched

    assert not await in_new_context(run(look))


@pytest.mark.parametrize(
    ("sql", "is_one"),
    [
        ("SELECT 1", True),
        ("  ( select 1) union (select 2);\n", True),
        ("-- who\n/* and\nwhy */ WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("UPDATE a SET b = 1 RETURNING *", True),
        ("INSERT INTO a VALUES (1) RETURNING *", True),
        ("/* made */ INSERT INTO a SELECT 1", True),
        ("SELECT 1 INTO TEMPORARY mine", False),
        ("TABLE a", True),
        ("SET ROLE ada", False),
        ("SELECT 1; SET ROLE ada", False),
        ("selection", False),
        ("CREATE TEMPORARY TABLE a (b int)", False),
        (b"SELECT 1", False),
    ],
)
def test_what_is_one_query(sql, is_one):
    assert callers.is_query(sql) is is_one


def test_the_view_of_settings_may_be_updated():
    assert callers.leaves_state('UPDATE "pg_settings" SET "setting" = %s WHERE "name" = %s')
