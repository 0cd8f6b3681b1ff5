"""The lifespan protocol: `startup` and `shutdown`, their errors, the state, the connections."""

import asyncio
import contextlib
import logging

import pytest
from asgi import Client
from connections import Connection
from django.core import signals
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import JsonResponse
from django.test import override_settings
from django.urls import path
from testapp.models import Author

from django_aio import cooperative
from django_aio.db import chains, idle

pytestmark = pytest.mark.usefixtures("db")


@contextlib.contextmanager
def receivers(signal, *functions):
    for function in functions:
        signal.connect(function)
    try:
        yield
    finally:
        for function in functions:
            signal.disconnect(function)


def lifespan(**scope):
    # Not by get_asgi_application(), which configures logging anew.
    return Connection({"type": "lifespan", **scope}, ASGIHandler())


async def test_both_signals_reach_receivers_of_both_colours():
    called = []

    def synchronous(scope, state, **kwargs):
        called.append(("synchronous", scope["type"], Author.objects.count()))

    @cooperative
    def on_the_loop(**kwargs):
        called.append(("on the loop", Author.objects.count()))

    async def coroutine(state, **kwargs):
        called.append(("coroutine", await Author.objects.acount()))
        state["client"] = "open"

    async def last(state, **kwargs):
        called.append(("last", state["client"]))

    state = {}
    with (
        receivers(signals.startup, synchronous, on_the_loop, coroutine),
        receivers(signals.shutdown, last),
    ):
        async with lifespan(state=state) as server:
            server.put("lifespan.startup")
            assert await server.get() == {"type": "lifespan.startup.complete"}
            # In no order: Django 5.2 calls both colours at the same time.
            assert set(called) == {
                ("synchronous", "lifespan", 0),
                ("on the loop", 0),
                ("coroutine", 0),
            }
            assert state == {"client": "open"}
            await asyncio.sleep(0)
            # No connection is held for as long as the server runs.
            assert set(chains.tasks) <= {asyncio.current_task()}
            server.put("lifespan.shutdown")
            assert await server.get() == {"type": "lifespan.shutdown.complete"}
            await server.ended()
    assert called[-1] == ("last", "open")


@pytest.fixture
def server_log():
    """The records of Django's logger of the server, which does not propagate."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("django.server")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


async def state_of(request):
    return JsonResponse(request.scope["state"])


class StateUrls:
    urlpatterns = (path("state/", state_of),)


@override_settings(ROOT_URLCONF=StateUrls)
async def test_requests_have_the_state():
    client = Client()
    scope = client.scope
    client.scope = lambda *args: {**scope(*args), "state": {"client": "open"}}
    assert (await client.get("/state/")).text == '{"client": "open"}'


@pytest.mark.parametrize("colour", ["coroutine", "synchronous"])
async def test_an_error_at_start_up(colour, server_log):
    async def coroutine(**kwargs):
        raise ValueError("no licence")

    def synchronous(**kwargs):
        raise ValueError("no licence")

    with receivers(signals.startup, {"coroutine": coroutine, "synchronous": synchronous}[colour]):
        async with lifespan() as server:
            server.put("lifespan.startup")
            answer = {"type": "lifespan.startup.failed", "message": "ValueError: no licence"}
            assert await server.get() == answer
            await server.ended()
    (record,) = server_log
    assert "the server cannot start" in record.getMessage()


async def test_errors_at_shutdown(caplog):
    called = []

    async def fails(**kwargs):
        raise ValueError("cannot close")

    def fails_too(**kwargs):
        raise ValueError("nor this")

    async def works(**kwargs):
        called.append("works")

    with (
        caplog.at_level(logging.ERROR, "django.dispatch"),
        receivers(signals.shutdown, fails, fails_too, works),
    ):
        async with lifespan() as server:
            server.put("lifespan.shutdown")
            answer = await server.get()
            await server.ended()
    assert answer["type"] == "lifespan.shutdown.failed"
    assert sorted(answer["message"].split("; ")) == [
        "ValueError: cannot close",
        "ValueError: nor this",
    ]
    assert called == ["works"]
    assert len(caplog.records) == 2


async def test_pools_close_although_a_receiver_fails(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)

    async def fails(**kwargs):
        raise ValueError("cannot close")

    await asyncio.create_task(Author.objects.aexists())
    await asyncio.sleep(0)
    assert idle.shelves().idle["default"]
    with receivers(signals.shutdown, fails):
        async with lifespan() as server:
            server.put("lifespan.shutdown")
            await server.ended()
    assert not idle.shelves().idle
