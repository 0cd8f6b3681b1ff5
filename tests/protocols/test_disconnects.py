"""Clients that leave, at every stage of a request, and requests that are wrong from the start."""

import asyncio
import threading

import pytest
from asgi import Client
from connections import http
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from testapp.models import Author

from django_aio import blocking
from django_aio.db import chains

pytestmark = pytest.mark.usefixtures("db", "urlconf")

events: dict[str, asyncio.Event] = {}
threads: dict[str, threading.Event] = {}


async def wait_for_ever(name):
    events["started"].set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        events[name].set()
        raise


async def gathers(request):
    await asyncio.gather(wait_for_ever("first"), wait_for_ever("second"))


async def groups(request):
    async with asyncio.TaskGroup() as group:
        group.create_task(wait_for_ever("first"))
        group.create_task(wait_for_ever("second"))


async def streams(request):
    async def lines():
        yield "a"
        await wait_for_ever("first")

    return StreamingHttpResponse(lines())


async def floods(request):
    async def lines():
        try:
            while True:
                yield "a"
        finally:
            events["first"].set()

    return StreamingHttpResponse(lines())


@blocking
def threaded(request):
    threads["started"].set()
    threads["go on"].wait(20)
    Author.objects.create(name="from a thread")
    return HttpResponse("nobody reads this")


def passes(get_response):
    """A middleware that runs in a thread, which waits for the coroutine view."""

    def middleware(request):
        return get_response(request)

    return middleware


async def takes_its_time(request):
    for _ in range(50):
        await asyncio.sleep(0)
    events["first"].set()
    return HttpResponse("nobody reads this")


async def post(request):
    return JsonResponse({"post": request.POST, "path": request.path_info, "url": request.path})


class Urls:
    urlpatterns = (
        path("gathers/", gathers),
        path("groups/", groups),
        path("streams/", streams),
        path("floods/", floods),
        path("threaded/", threaded),
        path("takes-its-time/", takes_its_time),
        path("post/", post),
        path("é/", post),
    )


@pytest.fixture
def urlconf():
    global events, threads
    events = {name: asyncio.Event() for name in ("started", "first", "second")}
    threads = {name: threading.Event() for name in ("started", "go on")}
    with override_settings(ROOT_URLCONF=Urls, MIDDLEWARE=[]):
        yield


async def nothing_left():
    await asyncio.sleep(0)
    assert set(chains.tasks) <= {asyncio.current_task()}
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("path", ["/gathers/", "/groups/"])
async def test_child_tasks_are_cancelled(path, request_signals):
    async with http(path) as connection:
        connection.put("http.request")
        await events["started"].wait()
        connection.put("http.disconnect")
        await connection.ended()
    assert events["first"].is_set()
    assert events["second"].is_set()
    assert connection.sent == []
    assert request_signals == {"started": 1, "finished": 1}
    await nothing_left()


async def test_while_streaming(request_signals):
    async with http("/streams/") as connection:
        connection.put("http.request")
        await events["started"].wait()
        connection.put("http.disconnect")
        await connection.ended()
    assert connection.body == b"a"
    assert events["first"].is_set()
    assert request_signals == {"started": 1, "finished": 1}
    await nothing_left()


@pytest.mark.parametrize("path", ["/floods/", "/post/"])
async def test_a_send_that_finds_nobody_there(path, request_signals, caplog):
    connection = http(path)
    connection.error = OSError("the client has gone")  # as uvicorn's
    async with connection:
        connection.put("http.request")
        await connection.ended()
    assert request_signals == {"started": 1, "finished": 1}
    assert not caplog.records
    await nothing_left()


async def test_a_send_that_finds_nobody_there_closes_the_generator():
    async with http("/floods/") as connection:
        connection.put("http.request")
        await connection.get()
        await connection.get()
        connection.error = OSError("the client has gone")
        await connection.ended()
    assert events["first"].is_set()


async def test_while_the_body_is_uploaded(request_signals):
    async with http("/post/", "POST") as connection:
        connection.put("http.request", body=b"a=", more_body=True)
        connection.put("http.disconnect")
        await connection.ended()
    assert connection.sent == []
    assert request_signals == {"started": 0, "finished": 0}
    await nothing_left()


async def leave_while_in_a_thread(path):
    """Disconnect while a thread of the request has started, and let it go on after that."""
    async with http(path) as connection:
        connection.put("http.request")
        await asyncio.to_thread(threads["started"].wait, 20)
        connection.put("http.disconnect")
        for _ in range(20):
            await asyncio.sleep(0)
        threads["go on"].set()
        await connection.ended()
    return connection


async def test_while_a_view_runs_in_a_thread(request_signals):
    """The view is not interrupted, and has its connection for as long as it runs."""
    connection = await leave_while_in_a_thread("/threaded/")
    assert connection.sent == []
    assert await Author.objects.filter(name="from a thread").acount() == 1
    assert request_signals == {"started": 1, "finished": 1}
    await nothing_left()


@override_settings(MIDDLEWARE=[f"{__name__}.passes"])
async def test_while_a_thread_begins_to_wait_for_the_view(monkeypatch):
    """asgiref cannot cancel the view yet, so the request ends after it."""
    loop, view_had_ended = asyncio.get_running_loop(), []
    call_soon = loop.call_soon_threadsafe

    def late(callback, *args, **kwargs):
        if callback == loop.create_task:
            threads["started"].set()
            threads["go on"].wait(20)
        return call_soon(callback, *args, **kwargs)

    def receiver(**kwargs):
        view_had_ended.append(events["first"].is_set())

    monkeypatch.setattr(loop, "call_soon_threadsafe", late)
    request_finished.connect(receiver)
    try:
        await leave_while_in_a_thread("/takes-its-time/")
    finally:
        request_finished.disconnect(receiver)
    assert view_had_ended == [True]
    await nothing_left()


async def test_five_hundred_aborted_streams(request_signals):
    async def visit():
        async with http("/streams/") as connection:
            connection.put("http.request")
            await connection.get()
            connection.put("http.disconnect")
            await connection.ended()

    for _ in range(10):
        await asyncio.gather(*(visit() for _ in range(50)))
    assert request_signals == {"started": 500, "finished": 500}
    await nothing_left()


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10)
async def test_a_body_that_is_too_big():
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await Client().request("POST", "/post/", b"a=" + b"x" * 20, headers)).status == 400
    assert (await Client().request("POST", "/post/", b"a=b", headers)).status == 200


async def test_a_request_that_is_too_big_to_be_made(monkeypatch, request_signals):
    """Django's own answer to RequestDataTooBig while the request is made."""

    def refuse(scope, body_file):
        raise RequestDataTooBig

    monkeypatch.setattr(ASGIHandler, "request_class", staticmethod(refuse))
    assert (await Client().get("/post/")).status == 413
    assert request_signals == {"started": 1, "finished": 1}


async def test_a_path_that_is_no_utf_8(request_signals):
    """Servers decode it; what cannot be decoded reaches Django in the query string or a header."""
    connection = http("/post/")
    connection.scope["query_string"] = b"a=\xff"
    async with connection:
        connection.put("http.request")
        await connection.ended()
    assert connection.sent[0]["status"] == 400
    assert request_signals == {"started": 1, "finished": 1}


async def test_paths_are_decoded():
    assert (await Client().get("/é/")).status == 200


@pytest.mark.parametrize("forced", [None, "/forced"])
async def test_script_prefix(forced):
    prefix = forced or "/site"
    connection = http(f"{prefix}/post/")
    connection.scope["root_path"] = "/site"
    with override_settings(FORCE_SCRIPT_NAME=forced):
        async with connection:
            connection.put("http.request")
            await connection.ended()
    assert b'"path": "/post/"' in connection.body
    assert f'"url": "{prefix}/post/"'.encode() in connection.body
