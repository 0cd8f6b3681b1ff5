"""Websocket routes: the handshake behind the middleware, the conversation, every way to end it."""

import json
import logging

import pytest
from asgi import Client
from asgiref.sync import sync_to_async
from connections import Socket, leftover
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient, override_settings
from django.urls import reverse
from testapp import protocols
from testapp.models import Author

from django_aio.urls import websocket

pytestmark = pytest.mark.usefixtures("db", "protocol_views")

DENIAL = "websocket.http.response"


async def logged_in():
    """The cookie header of a user named ada."""
    user = await User.objects.acreate_user("ada")
    client = AsyncClient()
    await client.aforce_login(user)
    session = await client.asession()
    await session.aset("name", "Ada")
    await session.asave()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


async def refused(path, **options):
    """The messages that refuse a connection."""
    async with Socket(path, **options) as socket:
        await socket.ended()
    assert not leftover()
    return socket.sent


async def test_echo(request_signals):
    async with Socket("/ws/echo/") as socket:
        await socket.accepted()
        assert request_signals == {"started": 1, "finished": 1}  # the handshake is over
        for text in ("a", "é"):
            socket.say(text)
            assert await socket.text() == text
        socket.put("websocket.receive", bytes=b"\x00")
        assert (await socket.get())["bytes"] == b"\x00"
        socket.leave()
        await socket.ended()
    assert protocols.seen["echo"] == "ended"
    assert [message["type"] for message in socket.sent] == ["websocket.accept"] + [
        "websocket.send"
    ] * 3
    assert request_signals == {"started": 1, "finished": 1}
    assert not leftover()


async def test_what_a_view_finds():
    cookie = await logged_in()
    async with Socket("/ws/room/7/?q=x", cookie=cookie, subprotocols=["chat", "b"]) as socket:
        accept = await socket.accepted()
        assert accept["subprotocol"] == "chat"
        assert (b"x-room", b"1") in accept["headers"]
        assert json.loads(await socket.text()) == {
            "pk": 7,
            "extra": {},
            "user": "ada",
            "session": "Ada",
            "q": "x",
            "here": "/ws/room/7/",
            "there": "/json/",
            "name": "room",
        }
        socket.say('{"a": 1}')
        assert await socket.get() == {
            "type": "websocket.close",
            "code": 4000,
            "reason": "enough",
        }
        socket.leave(4000)  # what the server says next
        await socket.ended()
    assert protocols.seen == {"json": {"a": 1}, "after": True}


async def test_included_routes():
    async with Socket("/nested/a/room/3/") as socket:
        await socket.accepted()
        found = json.loads(await socket.text())
        assert (found["pk"], found["extra"]) == (3, {"where": "a", "x": 1})
        assert found["name"] == "ns:room"
        socket.leave()
    assert reverse("ns:room", args=["a", 3]) == "/nested/a/room/3/"


async def test_a_route_hidden_from_the_other_protocol():
    """A catch-all of HTTP in front of it is no obstacle, nor is it one to HTTP."""
    async with Socket("/json/live/") as socket:
        await socket.accepted()
        socket.leave()
        await socket.ended()
    assert "Hello" in (await Client().get("/json/")).text
    assert (await Client().get("/ws/echo/")).status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere/", 404),
        ("/json/", 404),
        ("/app/x", 404),
        ("/ws/echo", 301),
        ("/ws/room/x/", 404),
        ("/ws/refusing/404/", 404),
        ("/ws/refusing/403/", 403),
        ("/ws/refusing/500/", 500),
        ("/ws/refusing/early/", 500),
        ("/ws/refusing/response/", 418),
        ("/ws/refusing/close/", 403),
        ("/ws/refusing/nothing/", 403),
        ("/ws/members/", 302),
        ("/ws/app/1/deny", 404),
        ("/ws/below/deny", 402),
    ],
)
@pytest.mark.parametrize("extension", [True, False])
async def test_refusals(path, status, extension, request_signals, caplog):
    with caplog.at_level(logging.WARNING, "django.request"):
        sent = await refused(path, extensions=[DENIAL] if extension else [])
    if extension:
        assert sent[0]["type"] == f"{DENIAL}.start"
        assert sent[0]["status"] == status
        assert sent[-1]["type"] == f"{DENIAL}.body"
        assert not sent[-1].get("more_body")
        assert all("body" in message for message in sent[1:])  # uvicorn takes it for granted
    else:
        assert [message["type"] for message in sent] == ["websocket.close"]
    assert len(caplog.records) == (status >= 400)
    assert request_signals == {"started": 1, "finished": 1}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://testserver", True),
        ("https://testserver", False),
        ("http://testserver.evil", False),
        ("http://friend.example", True),
        ("https://a.friends.example", True),
        ("http://a.friends.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
@override_settings(CSRF_TRUSTED_ORIGINS=["http://friend.example", "https://*.friends.example"])
async def test_origin(origin, allowed):
    headers = {} if origin is None else {"origin": origin}
    async with Socket("/ws/echo/", extensions=[DENIAL], **headers) as socket:
        first = await socket.get()
        socket.leave()
        await socket.ended()
    assert first["type"] == ("websocket.accept" if allowed else f"{DENIAL}.start")
    assert first.get("status") == (None if allowed else 403)


async def test_origin_of_a_public_route():
    async with Socket("/ws/public/", origin="https://anywhere.example") as socket:
        await socket.accepted()


async def test_secure_websockets_belong_to_secure_pages():
    socket = Socket("/ws/echo/", origin="https://testserver")
    socket.scope["scheme"] = "wss"
    async with socket:
        await socket.accepted()


@override_settings(SECURE_SSL_REDIRECT=True)
async def test_middleware_refuses():
    assert (await refused("/ws/echo/", extensions=[DENIAL]))[0]["status"] == 301


def objects(get_response):
    """Lets the view accept, and then answers something else."""

    def middleware(request):
        get_response(request)
        return HttpResponse(status=409)

    return middleware


async def test_middleware_refuses_what_the_view_accepted():
    with override_settings(MIDDLEWARE=[f"{__name__}.objects"]):
        sent = await refused("/ws/waiting/", extensions=[DENIAL])
    assert sent[0]["status"] == 409
    assert protocols.events["started"].is_set() is False


def other_urls(get_response):
    def middleware(request):
        request.urlconf = "testapp.protocols"
        return get_response(request)

    return middleware


@override_settings(ROOT_URLCONF="testapp.urls")
async def test_a_middleware_that_sets_the_urlconf():
    await refused("/ws/echo/")
    with override_settings(MIDDLEWARE=[f"{__name__}.other_urls"]):
        async with Socket("/ws/echo/") as socket:
            await socket.accepted()


@override_settings(ALLOWED_HOSTS=["elsewhere"])
async def test_a_host_that_is_not_allowed():
    assert (await refused("/ws/echo/", extensions=[DENIAL]))[0]["status"] == 400


async def test_members_may_enter():
    async with Socket("/ws/members/", cookie=await logged_in()) as socket:
        await socket.accepted()
        assert (await socket.get())["code"] == 1000
        await socket.ended()


async def test_a_session_that_begins_with_the_handshake():
    async with Socket("/ws/visits/") as socket:
        accept = await socket.accepted()
    (cookie,) = (value.decode() for name, value in accept["headers"] if name == b"set-cookie")
    async with Socket("/ws/room/1/", cookie=cookie.partition(";")[0]) as socket:
        await socket.accepted()
        assert json.loads(await socket.text())["session"] == "Ada"


async def test_a_path_that_cannot_be_decoded(request_signals):
    socket = Socket("/ws/echo/", extensions=[DENIAL])
    socket.scope["query_string"] = b"\xff"
    async with socket:
        await socket.ended()
    assert socket.sent[0]["status"] == 400
    assert request_signals == {"started": 1, "finished": 1}


async def test_an_asgi_application_of_both_protocols():
    cookie = await logged_in()
    async with Socket("/ws/app/5/", cookie=cookie) as socket:
        await socket.accepted()
        socket.say("hello")
        assert await socket.text() == "hello"
        assert (await socket.get())["code"] == 1000
        await socket.ended()
    scope = protocols.seen["scope"]
    assert scope["type"] == "websocket"
    assert (scope["path"], scope["root_path"]) == ("/ws/app/5/", "")
    assert scope["url_route"]["kwargs"] == {"pk": 5}
    assert scope["user"].get_username() == "ada"  # loaded
    assert scope["session"]["name"] == "Ada"


async def test_an_asgi_application_below_a_prefix():
    async with Socket("/ws/below/a/b") as socket:
        await socket.accepted()
        socket.leave()
    scope = protocols.seen["scope"]
    assert (scope["path"], scope["root_path"]) == ("/ws/below/a/b", "/ws/below")


async def test_atomic_requests(monkeypatch):
    """The view is in no transaction: it outlives its request."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    async with Socket("/ws/querying/") as socket:
        await socket.accepted()
        assert await socket.text() == "0"


async def test_sync_code_of_a_view_uses_its_connection():
    async def view(socket):
        await socket.accept()
        await Author.objects.acreate(name="a")
        await socket.send(str(await sync_to_async(Author.objects.count)()))

    class Urls:
        urlpatterns = (websocket("x/", view),)

    with override_settings(ROOT_URLCONF=Urls):
        async with Socket("/x/") as socket:
            await socket.accepted()
            assert await socket.text() == "1"
            await socket.ended()


async def test_an_http_error_page_of_the_project():
    """handler404 is found through the URLconf that stands in for the project's."""
    protocols.handler404 = lambda request, exception: HttpResponse("none", status=404)
    try:
        sent = await refused("/nowhere/", extensions=[DENIAL])
    finally:
        del protocols.handler404
    assert sent[1]["body"] == b"none"
