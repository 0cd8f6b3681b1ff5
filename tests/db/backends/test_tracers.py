"""Tracers of the driver: they see the statements of the loop as they see those of a thread."""

import asyncio
import contextvars

import psycopg
import pytest
import wrapt
from asgiref.sync import sync_to_async
from conftest import bridge_pool, out_of_the_pool, postgresql_only
from django.db import connection, transaction
from testapp.models import Author

from django_aio import run

pytestmark = [pytest.mark.usefixtures("db"), postgresql_only]

who = contextvars.ContextVar("who", default="nobody")


class Tracer:
    """Notes each statement, with whose it is, by a cursor factory or by proxies."""

    def __init__(self):
        self.seen = []
        self.connections = 0

    def note(self, sql):
        if "testapp_author" in str(sql):
            self.seen.append(who.get())

    def with_factory(self, connect, *args, **kwargs):
        tracer, base = self, kwargs.pop("cursor_factory", None) or psycopg.Cursor

        class Traced(base):
            def execute(self, query, *args, **kwargs):
                tracer.note(query)
                return super().execute(query, *args, **kwargs)

        self.connections += 1
        return connect(*args, cursor_factory=Traced, **kwargs)

    def with_proxy(self, connect, *args, **kwargs):
        self.connections += 1
        return ConnectionProxy(connect(*args, **kwargs), self)


class ConnectionProxy(wrapt.ObjectProxy):
    def __init__(self, wrapped, tracer):
        super().__init__(wrapped)
        self._self_tracer = tracer

    def cursor(self, *args, **kwargs):
        return CursorProxy(self.__wrapped__.cursor(*args, **kwargs), self._self_tracer)


class CursorProxy(wrapt.ObjectProxy):
    def __init__(self, wrapped, tracer):
        super().__init__(wrapped)
        self._self_tracer = tracer

    def execute(self, query, *args, **kwargs):
        self._self_tracer.note(query)
        return self.__wrapped__.execute(query, *args, **kwargs)


def wrap_module(monkeypatch, trace):
    """Round `psycopg.connect`, without a `__wrapped__`."""
    connect = psycopg.connect
    monkeypatch.setattr(psycopg, "connect", lambda *args, **kwargs: trace(connect, *args, **kwargs))


def wrap_class(monkeypatch, trace):
    """Round `psycopg.Connection.connect`, as wrapt does it."""

    def call(wrapped, instance, args, kwargs):
        return trace(wrapped, *args, **kwargs)

    connect = wrapt.FunctionWrapper(vars(psycopg.Connection)["connect"], call)
    monkeypatch.setattr(psycopg.Connection, "connect", connect)


@pytest.fixture(params=["factory", "proxy"])
def tracer(request, kept, monkeypatch):
    """A tracer of everything, where it sees what Django asks for."""
    found = Tracer()
    trace = getattr(found, f"with_{request.param}")
    # A pool of psycopg_pool's connects by the class.
    (wrap_class if kept == "pool" else wrap_module)(monkeypatch, trace)
    connection.close()
    return found


async def trace(name, work):
    who.set(name)
    await work()


async def in_tasks(work):
    """Run it in three tasks at once, which have each a context of its own."""
    await asyncio.gather(*(asyncio.create_task(trace(name, work)) for name in "abc"))


async def test_statements_are_seen_once_in_the_context_of_who_asks(tracer):
    await in_tasks(Author.objects.acount)
    await in_tasks(Author.objects.afirst)
    assert sorted(tracer.seen) == list("aabbcc")
    assert tracer.connections


async def test_those_of_threads_and_transactions(tracer):
    async def work():
        await sync_to_async(Author.objects.count)()
        async with transaction.atomic():
            await Author.objects.acreate(name="a")
        async for _ in Author.objects.order_by("pk").aiterator(chunk_size=2):
            break  # Django makes a server-side cursor without asking the connection

    await trace("a", work)
    assert tracer.seen == ["a", "a"]


@pytest.mark.parametrize("wrap", [wrap_module, wrap_class])
async def test_both_places(wrap, monkeypatch):
    """Without a pool it does not matter which of the two a tracer has wrapped."""
    tracer = Tracer()
    wrap(monkeypatch, tracer.with_factory)
    await run(connection.close)
    await trace("a", Author.objects.acount)
    assert (tracer.seen, tracer.connections) == (["a"], 1)


async def test_a_class_that_is_put_in_the_place_of_psycopgs(monkeypatch):
    """After the series was applied: our connections are of that class too."""
    tracer = Tracer()

    class Traced(psycopg.Connection):
        def cursor(self, *args, **kwargs):
            cursor = super().cursor(*args, **kwargs)
            return CursorProxy(cursor, tracer)

    monkeypatch.setattr(psycopg, "Connection", Traced)
    monkeypatch.setattr(psycopg, "connect", Traced.connect)
    await run(connection.close)
    await trace("a", Author.objects.acount)
    assert tracer.seen == ["a"]


async def test_a_tracer_leaves_nothing_in_a_session(pooled, monkeypatch):
    """It stands between Django and the connection: a connection is held for one statement."""
    wrap_class(monkeypatch, Tracer().with_proxy)
    await in_tasks(Author.objects.acount)
    await Author.objects.acount()
    assert not await out_of_the_pool()
    assert not any(face.touched for face in bridge_pool()._at_hand)
    async with connection.cursor() as cursor:
        await cursor.execute("SET application_name = 'a'")
    (face,) = await out_of_the_pool()
    assert face.touched
