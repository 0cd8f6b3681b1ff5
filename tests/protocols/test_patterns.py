"""ASGI applications in the URLconf: scope, streaming both ways, disconnects, errors."""

import asyncio
import logging

import pytest
from asgi import Client
from connections import http, leftover
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient, RequestFactory, override_settings
from django.urls import resolve, reverse
from testapp import protocols
from testapp.models import Author

from django_aio import run
from django_aio.db import chains
from django_aio.protocols import exchange
from django_aio.urls import asgi_view, websocket

pytestmark = pytest.mark.usefixtures("db", "protocol_views")


@pytest.mark.parametrize(
    ("path", "root_path", "params"),
    [
        ("/app/", "/app", {}),
        ("/app/deep/er", "/app", {}),
        ("/bare", "/bare", {}),
        ("/bare/x", "/bare", {}),
        ("/re/acme/x/", "/re/acme", {"tenant": "acme"}),
        ("/inner/7/app/x", "/inner/7/app", {"number": 7}),
    ],
)
async def test_scope(path, root_path, params):
    response = await Client().get(f"{path}?a=1")
    assert (response.status, response.text) == (200, "hello")
    assert response.headers["content-type"] == "text/plain"
    assert response.headers["x-frame-options"] == "DENY"  # the middleware has seen it
    scope = protocols.seen["scope"]
    assert (scope["path"], scope["root_path"]) == (path, root_path)
    assert (scope["query_string"], scope["path_params"]) == (b"a=1", params)
    assert scope["url_route"] == {"args": (), "kwargs": params}
    assert scope["django.request"].path == path
    assert not leftover()


@pytest.mark.parametrize("whole", [True, False])
async def test_scope_below_a_root_path(whole):
    """Servers used to leave the root path out of the path; the application gets it either way."""
    client = Client()
    scope = client.scope

    def mounted(method, path, headers):
        return {**scope(method, path, headers), "root_path": "/site"}

    client.scope = mounted
    response = await client.get("/site/app/x" if whole else "/app/x")
    assert response.text == "hello"
    found = protocols.seen["scope"]
    assert (found["path"], found["root_path"]) == ("/site/app/x", "/site/app")


async def test_prefixes_end_at_a_segment():
    assert (await Client().get("/barefoot")).status == 404
    assert (await Client().get("/app")).status == 301  # APPEND_SLASH
    assert reverse("app") == "/app/"
    assert resolve("/app/x/y").view_name == "app"


async def test_servers_extensions_are_not_offered():
    connection = http("/app/")
    connection.scope["extensions"] = {"http.response.pathsend": {}, "tls": {"tls_version": 1}}
    async with connection:
        connection.put("http.request")
        await connection.ended()
    assert protocols.seen["scope"]["extensions"] == {"tls": {"tls_version": 1}}


async def test_both_ways_at_once():
    """The answer to the first chunk is there before the second is sent."""
    async with http("/exempt/echo", "POST") as connection:
        assert (await connection.get())["status"] == 200
        for chunk in (b"a", b"b"):
            connection.put("http.request", body=chunk, more_body=True)
            assert (await connection.get())["body"] == chunk
        connection.put("http.request", body=b"c", more_body=False)
        assert (await connection.get())["body"] == b"c"
        await connection.ended()
    assert connection.body == b"abc"
    assert not leftover()


async def test_a_slow_application_holds_the_client_back():
    async with http("/exempt/wait", "POST") as connection:
        for _ in range(5):
            connection.put("http.request", body=b"x", more_body=True)
        await protocols.events["started"].wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert connection.received == 1


async def test_a_slow_client_holds_the_application_back():
    connection = http("/app/flood")
    connection.gate.clear()
    async with connection:
        connection.put("http.request")
        await connection.get()
        for _ in range(20):
            await asyncio.sleep(0)
        assert protocols.seen["chunks"] <= 2
        connection.gate.set()
        while protocols.seen["chunks"] < 50:
            await connection.get()
        connection.put("http.disconnect")
        await connection.ended()
    assert not leftover()


async def test_csrf_is_checked_unless_exempt():
    client = Client()
    assert (await client.post("/app/echo", {"a": "1"})).status == 403
    assert (await client.post("/exempt/echo", {"a": "1"})).text == "a=1"


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_body_that_a_middleware_has_read(size):
    """The CSRF middleware reads the form for its token; the application gets it all the same."""
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None):
        await _post_form(size)


async def _post_form(size):
    token = "a" * 32
    form = f"csrfmiddlewaretoken={token}&text={'x' * size}".encode()
    headers = {
        "content_type": "application/x-www-form-urlencoded",
        "cookie": f"{settings.CSRF_COOKIE_NAME}={token}",
    }
    async with http("/app/echo", "POST", **headers) as connection:
        connection.put("http.request", body=form[:5], more_body=True)
        connection.put("http.request", body=form[5:], more_body=False)
        await connection.ended()
    assert connection.sent[0]["status"] == 200
    assert connection.body == form


@override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=1000)
async def test_a_multipart_body_on_disk_that_a_middleware_has_read():
    token = "a" * 32
    body = (
        b'--b\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n'
        + token.encode()
        + b'\r\n--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        + b"x" * 200_000
        + b"\r\n--b--\r\n"
    )
    headers = {
        "content_type": "multipart/form-data; boundary=b",
        "content_length": str(len(body)),
        "cookie": f"{settings.CSRF_COOKIE_NAME}={token}",
    }
    async with http("/app/echo", "POST", **headers) as connection:
        connection.put("http.request", body=body, more_body=False)
        await connection.ended()
    assert connection.body == body


def reads_in_a_coroutine(get_response):
    async def middleware(request):
        with pytest.raises(RuntimeError, match="leads to an ASGI application"):
            _ = request.body
        return HttpResponse(await run(getattr, request, "body"))

    return middleware


reads_in_a_coroutine.async_capable, reads_in_a_coroutine.sync_capable = True, False


def reads_in_a_thread(get_response):
    def middleware(request):
        protocols.seen["read"] = request.body
        return get_response(request)

    return middleware


async def test_a_body_that_a_middleware_reads_in_a_thread():
    with override_settings(MIDDLEWARE=[f"{__name__}.reads_in_a_thread"]):
        response = await Client().request("POST", "/app/echo", b"abc")
    assert (response.text, protocols.seen["read"]) == ("abc", b"abc")


async def test_a_coroutine_that_reads_the_body_is_told_why_not():
    with override_settings(MIDDLEWARE=[f"{__name__}.reads_in_a_coroutine"]):
        response = await Client().request("POST", "/app/echo", b"abc")
    assert response.text == "abc"


async def test_headers_and_cookies():
    connection = http("/app/headers")
    async with connection:
        connection.put("http.request")
        await connection.ended()
    start = connection.sent[0]
    assert start["status"] == 201
    headers = [(name.lower(), value) for name, value in start["headers"]]
    cookies = [value for name, value in headers if name == b"set-cookie"]
    assert cookies == [b"a=1; Path=/", b"b=2; Odd"]
    assert (b"x-a", b"1, 2") in headers
    assert (b"content-type", b"a/b") in headers


@pytest.mark.parametrize("what", ["fail", "silent", "cancelled"])
async def test_an_error_before_the_response_is_a_500(what, caplog):
    with caplog.at_level(logging.ERROR, "django.request"):
        assert (await Client().get(f"/app/{what}")).status == 500
    assert len(caplog.records) == 1
    assert not leftover()


@pytest.mark.parametrize(("what", "error"), [("fail", ValueError), ("stop", RuntimeError)])
async def test_an_error_halfway_closes_the_connection(what, error):
    async with http(f"/app/{what}halfway") as connection:
        connection.put("http.request")
        with pytest.raises(error):
            await connection.ended()
    assert connection.body == b"half"
    assert connection.sent[-1].get("more_body")
    assert not leftover()


async def test_a_disconnect_cancels_an_application_that_does_not_listen(request_signals):
    async with http("/app/wait") as connection:
        connection.put("http.request")
        await protocols.events["started"].wait()
        connection.put("http.disconnect")
        await connection.ended()
    assert protocols.events["cancelled"].is_set()
    assert connection.sent == []
    assert request_signals == {"started": 1, "finished": 1}
    assert not leftover()


async def test_cancelling_the_request_cancels_the_application():
    async with http("/exempt/wait", "POST") as connection:
        connection.put("http.request", body=b"x", more_body=True)
        await protocols.events["started"].wait()
        connection.task.cancel()  # unread body holds the disconnect back; the server cancels
        with pytest.raises(asyncio.CancelledError):
            await connection.ended()
    assert protocols.events["cancelled"].is_set()
    assert not leftover()


async def test_an_application_that_listens_ends_by_itself():
    async with http("/app/listen") as connection:
        connection.put("http.request")
        await connection.get()
        await connection.get()
        connection.put("http.disconnect")
        await connection.ended()
    assert protocols.seen["tidied"] == "http.disconnect"
    assert not leftover()


async def test_an_application_that_goes_on_is_cancelled(monkeypatch):
    monkeypatch.setattr(exchange, "GRACE", 0.01)
    async with http("/app/stubborn") as connection:
        connection.put("http.request")
        await protocols.events["started"].wait()
        connection.put("http.disconnect")
        await connection.ended()
    assert protocols.events["cancelled"].is_set()


async def test_a_client_that_cannot_be_sent_to():
    connection = http("/app/flood")
    connection.error = OSError("gone")
    async with connection:
        connection.put("http.request")
        await connection.ended()
    assert not leftover()


async def test_work_after_the_response_is_waited_for():
    """And a server's disconnect, which follows every response, does not cancel it."""
    await Author.objects.acreate(name="a")
    async with http("/app/background") as connection:
        connection.put("http.request")
        await protocols.events["responded"].wait()
        while not (connection.sent and "body" not in connection.sent[-1]):
            await connection.get()
        connection.put("http.disconnect")
        protocols.events["go on"].set()
        await connection.ended()
    assert protocols.seen["background"] == 1


async def test_an_error_after_the_response_is_logged(caplog):
    with caplog.at_level(logging.ERROR, "django.request"):
        assert (await Client().get("/app/backgroundfail")).text == "done"
    assert [str(record.exc_info[1]) for record in caplog.records] == ["the background failed"]


def drops_the_response(get_response):
    def middleware(request):
        get_response(request)
        return HttpResponse("mine")

    return middleware


async def test_a_response_that_a_middleware_drops():
    with override_settings(MIDDLEWARE=[f"{__name__}.drops_the_response"]):
        assert (await Client().get("/app/flood")).text == "mine"
    assert not leftover()


async def test_the_users_request():
    client = Client()
    assert (await client.get("/app/user")).text == "nobody"
    response = await client.get("/private/")
    assert (response.status, response.headers["location"][:16]) == (302, "/accounts/login/")
    user = await User.objects.acreate_user("ada")
    django_client = AsyncClient()
    await django_client.aforce_login(user)
    response = await django_client.get("/app/user")
    assert b"".join([chunk async for chunk in response]) == b"ada"
    await asyncio.sleep(0)
    assert not leftover()


async def test_atomic_requests_do_not_hold_an_application(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    await Author.objects.acreate(name="a")
    assert (await Client().get("/app/query")).text == "1"


async def test_nothing_is_left():
    await asyncio.create_task(Client().get("/app/query"))
    await asyncio.sleep(0)
    assert not leftover()
    assert set(chains.tasks) <= {asyncio.current_task()}


def test_wsgi_is_refused():
    view = asgi_view(protocols.application)
    with pytest.raises(ImproperlyConfigured, match="came by WSGI"):
        asyncio.run(view(RequestFactory().get("/app/")))


@pytest.mark.parametrize("view", [protocols, lambda socket: None, AsyncClient, [1]])
def test_what_is_no_websocket_view(view):
    with pytest.raises(TypeError, match="needs a coroutine function"):
        websocket("x/", view)
