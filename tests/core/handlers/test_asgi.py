"""One ASGI request, whole: views of both colours, errors, streaming, disconnects, lifespan."""

import asyncio
import logging

import pytest
from asgi import Client
from conftest import postgresql_only
from django.core.asgi import get_asgi_application
from django.db import connection, connections
from django.test import override_settings
from testapp import views
from testapp.models import Author, Book

from django_aio.db import chains, idle

pytestmark = pytest.mark.usefixtures("db")


async def test_coroutine_view(request_signals):
    response = await Client().get("/json/")
    assert (response.status, response.text) == (200, '{"message": "Hello, World!"}')
    assert response.headers["x-frame-options"] == "DENY"
    assert request_signals == {"started": 1, "finished": 1}


async def test_orm_and_404():
    author = await Author.objects.acreate(name="a")
    client = Client()
    assert (await client.get(f"/row/{author.pk}/")).text == '{"name": "a"}'
    assert (await client.get("/row/0/")).status == 404
    assert (await client.get("/nowhere/")).status == 404


async def test_a_template_evaluates_querysets_lazily():
    author = await Author.objects.acreate(name="Austen")
    await Book.objects.acreate(title="Emma", author=author)
    response = await Client().get("/template/")
    assert "<li>Emma by Austen</li>" in response.text


async def test_form():
    client = Client()
    assert (await client.get("/form/")).status == 200
    assert (await client.post("/form/", {"name": "", "born": "x"})).status == 200
    response = await client.post("/form/", {"name": "Austen", "born": "1775"})
    assert (response.status, response.headers["location"]) == (302, "/template/")
    assert (await Author.objects.aget()).born == 1775
    response = await client.post("/form/", {"name": "Austen", "born": "1775"})
    assert "already exists" in response.text


async def test_csrf_is_checked():
    client = Client()
    assert (await client.post("/form/", {"name": "Austen"})).status == 403


@pytest.mark.parametrize(
    ("path", "on_loop"),
    [
        ("/trusted/", "True"),
        ("/untrusted/", "False"),
        ("/class/", "False"),
        ("/async-class/", "True"),
    ],
)
async def test_where_views_run(path, on_loop):
    assert (await Client().get(path)).text == on_loop


@override_settings(AIO={"COOPERATIVE": ["testapp"]})
async def test_the_list_moves_a_view_to_the_loop():
    assert (await Client().get("/untrusted/")).text == "True"
    assert (await Client().get("/class/")).text == "True"


async def test_a_view_that_fails(request_signals, caplog):
    with caplog.at_level(logging.CRITICAL, "django.request"):
        response = await Client().get("/fail/")
    assert response.status == 500
    assert request_signals == {"started": 1, "finished": 1}


async def test_streaming(request_signals):
    await Author.objects.abulk_create([Author(name=f"a{n}") for n in range(3)])
    assert (await Client().get("/stream/")).text == "a0\na1\na2\n"
    assert request_signals["finished"] == 1


async def test_admin(request_signals):
    response = await Client().get("/admin/")
    assert response.status == 302


async def test_atomic_requests(monkeypatch):
    """A coroutine view in a transaction; Django alone refuses this."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    client = Client()
    assert (await client.get("/write/?name=a")).text == "written"
    assert (await client.get("/write/?name=b&fail=1")).status == 500
    assert [author.name async for author in Author.objects.all()] == ["a"]


async def test_non_atomic_requests(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    assert (await Client().get("/write-now/?name=a&fail=1")).status == 500
    assert [author.name async for author in Author.objects.all()] == ["a"]


async def test_many_requests_at_once():
    authors = [await Author.objects.acreate(name=str(n)) for n in range(10)]
    responses = await asyncio.gather(*(Client().get(f"/row/{a.pk}/") for a in authors))
    assert [response.text for response in responses] == [f'{{"name": "{n}"}}' for n in range(10)]


async def test_a_disconnect_cancels_the_view(request_signals):
    views.events = {"started": asyncio.Event(), "cancelled": asyncio.Event()}
    client = Client()
    request = asyncio.create_task(client.get("/slow/"))
    await views.events["started"].wait()
    client.disconnect.set()
    response = await request
    assert views.events["cancelled"].is_set()
    assert response.status == 0
    assert request_signals == {"started": 1, "finished": 1}
    assert not request.cancelled()


async def test_cancelling_the_request_is_not_swallowed(request_signals):
    views.events = {"started": asyncio.Event(), "cancelled": asyncio.Event()}
    request = asyncio.create_task(Client().get("/slow/"))
    await views.events["started"].wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert request_signals["finished"] == 1


async def test_a_client_that_leaves_before_the_body(request_signals):
    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError("nothing is answered")

    await get_asgi_application()(Client().scope("GET", "/json/", {}), receive, send)
    assert request_signals == {"started": 0, "finished": 0}


async def test_a_request_that_cannot_be_decoded(request_signals):
    client = Client()
    scope = client.scope

    def broken(*args):
        return {**scope(*args), "query_string": b"\xff"}

    client.scope = broken
    assert (await client.get("/json/")).status == 400
    assert request_signals == {"started": 1, "finished": 1}


async def test_nothing_is_left_after_a_request():
    author = await Author.objects.acreate(name="a")
    await asyncio.create_task(Client().get(f"/row/{author.pk}/"))
    await asyncio.create_task(Client().get("/untrusted/"))
    await asyncio.sleep(0)
    assert list(chains.tasks) == [asyncio.current_task()]


async def test_lifespan(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    sent = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message["type"])

    await asyncio.create_task(Author.objects.aexists())
    await asyncio.sleep(0)
    assert idle.shelves().idle["default"]
    await get_asgi_application()({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not idle.shelves().idle


async def test_other_protocols_are_refused():
    with pytest.raises(ValueError, match="telepathy"):
        await get_asgi_application()({"type": "telepathy"}, None, None)


@postgresql_only
async def test_the_request_returns_its_connection(pooled):
    author = await Author.objects.acreate(name="a")
    for _ in range(10):
        response = await asyncio.create_task(Client().get(f"/row/{author.pk}/"))
        assert response.status == 200
    assert connection.connection is None  # nor does this task keep one


@postgresql_only
async def test_a_disconnect_cancels_the_statement():
    async def sleeping():
        async with connection.cursor() as cursor:
            await cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
                "AND datname = current_database() AND query LIKE '%%pg_sleep(60)%%' "
                "AND pid <> pg_backend_pid()",
                [],
            )
            return (await cursor.fetchone())[0]

    client = Client()
    request = asyncio.create_task(client.get("/sleep/"))
    async with asyncio.timeout(20):
        while not await sleeping():
            pass
        client.disconnect.set()
        await request
    assert await sleeping() == 0
