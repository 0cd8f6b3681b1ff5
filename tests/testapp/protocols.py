"""A URLconf with ASGI applications and websockets, and what they do."""

import asyncio

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.urls import asgi_view, include, path, re_path, reverse, websocket
from django.views.decorators.csrf import csrf_exempt

from testapp import views
from testapp.models import Author

# What the tests look at; set by the test.
events: dict[str, asyncio.Event] = {}
seen: dict = {}


async def respond(send, body=b"", status=200, headers=(), more_body=False):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": more_body})


async def application(scope, receive, send):
    """Does what the path below its root says."""
    seen["scope"] = scope
    what = scope["path"].removeprefix(scope["root_path"]).strip("/")
    await globals().get(f"do_{what}", do_nothing)(scope, receive, send)


async def do_nothing(scope, receive, send):
    await respond(send, b"hello", headers=[(b"content-type", b"text/plain")])


async def do_echo(scope, receive, send):
    """Sends each chunk of the body back before it asks for the next."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        body = message.get("body", b"")
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def do_headers(scope, receive, send):
    headers = [(b"set-cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2; Odd"), (b"x-a", b"1")]
    await respond(send, b"x", 201, [*headers, (b"x-a", b"2"), (b"content-type", b"a/b")])


async def do_fail(scope, receive, send):
    raise ValueError("the application failed")


async def do_failhalfway(scope, receive, send):
    await respond(send, b"half", more_body=True)
    raise ValueError("the application failed halfway")


async def do_stophalfway(scope, receive, send):
    await respond(send, b"half", more_body=True)


async def do_silent(scope, receive, send):
    pass


async def do_cancelled(scope, receive, send):
    raise asyncio.CancelledError


async def do_background(scope, receive, send):
    await respond(send, b"done")
    events["responded"].set()
    await events["go on"].wait()
    seen["background"] = await Author.objects.acount()


async def do_backgroundfail(scope, receive, send):
    await respond(send, b"done")
    raise ValueError("the background failed")


async def do_flood(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        seen["chunks"] = seen.get("chunks", 0) + 1
        await send({"type": "http.response.body", "body": b"x", "more_body": True})


async def do_wait(scope, receive, send):
    """Waits for something else than a message."""
    events["started"].set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        events["cancelled"].set()
        raise


async def do_listen(scope, receive, send):
    """Waits for the disconnect, and tidies up when it comes."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begin", "more_body": True})
    message = await receive()
    await asyncio.sleep(0)
    seen["tidied"] = message["type"]


async def do_stubborn(scope, receive, send):
    await receive()
    events["started"].set()
    await receive()
    try:
        await asyncio.Event().wait()
    finally:
        events["cancelled"].set()


async def do_user(scope, receive, send):
    user = await scope["django.request"].auser()
    await respond(send, user.get_username().encode() or b"nobody")


async def do_query(scope, receive, send):
    await respond(send, str(await Author.objects.acount()).encode())
    events["done"].set()


# Websockets.


async def echo(socket):
    await socket.accept()
    async for message in socket:
        await socket.send(message)
    seen["echo"] = "ended"


async def room(socket, pk, **kwargs):
    await socket.accept(subprotocol=(socket.subprotocols or [None])[0], headers=[("X-Room", "1")])
    await socket.send_json(
        {
            "pk": pk,
            "extra": kwargs,
            "user": socket.user.get_username(),
            "session": socket.session.get("name"),
            "q": socket.GET.get("q"),
            "here": reverse("room", args=[pk]),
            "there": reverse("json"),
            "name": socket.resolver_match.view_name,
        }
    )
    seen["json"] = await socket.receive_json()
    await socket.close(4000, "enough")
    seen["after"] = True


async def waiting(socket):
    await socket.accept()
    events["started"].set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        events["cancelled"].set()
        raise


async def receiving(socket):
    await socket.accept()
    try:
        await socket.receive()
    except ConnectionError as error:
        seen["error"] = error
        seen["authors"] = await Author.objects.acount()
        raise


async def writing(socket):
    await socket.accept()
    while True:
        await socket.send("x")
        seen["sent"] = seen.get("sent", 0) + 1


async def tasks(socket):
    """A reader and a writer, as many do."""
    await socket.accept()

    async def wait():
        events["started"].set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events["cancelled"].set()
            raise

    async with asyncio.TaskGroup() as group:
        group.create_task(wait())
        while True:
            await socket.receive()


async def failing(socket):
    await socket.accept()
    raise ValueError("the socket failed")


async def querying(socket):
    await socket.accept()
    await socket.send(str(await Author.objects.acount()))
    await socket.receive()


async def refusing(socket, how):
    if how == "404":
        raise Http404
    if how == "403":
        raise PermissionDenied
    if how == "500":
        raise ValueError("the view failed")
    if how == "response":
        return HttpResponse("teapot", status=418)
    if how == "close":
        await socket.close()
    if how == "early":
        await socket.send("x")
    return None


async def visits(socket):
    await socket.session.aset("name", "Ada")
    await socket.accept()


@login_required
async def members(socket):
    await socket.accept()


@csrf_exempt
async def public(socket):
    await socket.accept()


async def hybrid(scope, receive, send):
    """An ASGI application for both protocols, as others write them."""
    seen["scope"] = scope
    if scope["type"] == "http":
        await application(scope, receive, send)
        return
    message = await receive()
    assert message == {"type": "websocket.connect"}
    if scope["path"].endswith("deny"):
        await send({"type": "websocket.http.response.start", "status": 402, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"pay", "more_body": False})
        return
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.send", "text": message["text"]})


urlpatterns = [
    path("app/", asgi_view(application), name="app"),
    path("exempt/", csrf_exempt(asgi_view(application))),
    path("private/", login_required(asgi_view(application))),
    path("bare", asgi_view(application)),
    re_path(r"^re/(?P<tenant>\w+)/", asgi_view(application)),
    path("inner/<int:number>/", include([path("app/", asgi_view(application))])),
    path("json/", views.json, name="json"),
    websocket("ws/echo/", echo),
    websocket("ws/room/<int:pk>/", room, name="room"),
    websocket("ws/waiting/", waiting),
    websocket("ws/receiving/", receiving),
    websocket("ws/writing/", writing),
    websocket("ws/tasks/", tasks),
    websocket("ws/failing/", failing),
    websocket("ws/querying/", querying),
    websocket("ws/refusing/<how>/", refusing),
    websocket("ws/visits/", visits),
    websocket("ws/members/", members),
    websocket("ws/public/", public),
    path(
        "nested/<slug:where>/",
        include(([websocket("room/<int:pk>/", room, {"x": 1}, "room")], "nested"), "ns"),
    ),
    websocket("ws/app/<int:pk>/", hybrid),
    websocket("ws/below/", asgi_view(hybrid)),
    path("json/<path:rest>", views.json),
    websocket("json/live/", echo),
]
