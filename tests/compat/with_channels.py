"""Websockets of Channels: consumers of both colours, AuthMiddlewareStack, groups, many at once."""

import asyncio

import site_of

site_of.configure(
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)

from asgiref.sync import async_to_sync  # noqa: E402
from channels.auth import AuthMiddlewareStack, logout  # noqa: E402
from channels.db import database_sync_to_async  # noqa: E402
from channels.generic.websocket import (  # noqa: E402
    AsyncJsonWebsocketConsumer,
    JsonWebsocketConsumer,
)
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.testing import WebsocketCommunicator  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author, Book  # noqa: E402

ORIGIN = [(b"host", b"testserver"), (b"origin", b"http://testserver")]


@database_sync_to_async
def sell(title):
    """One copy less. Raises Book.DoesNotExist where there is none left, and undoes what it did."""
    with transaction.atomic():
        Author.objects.create(name=f"buyer of {title}")
        book = Book.objects.select_for_update().get(title=title, stock__gt=0)
        book.stock -= 1
        book.save()
        return book.stock


class Shop(AsyncJsonWebsocketConsumer):
    """Says who its user is; sells books, and tells everybody in the room."""

    async def connect(self):
        if not self.scope["user"].is_authenticated:
            await self.close(code=4401)
            return
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        if hasattr(self, "room"):
            await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive_json(self, content):
        if content["do"] == "who":
            titles = [book.title async for book in Book.objects.order_by("pk")]
            await self.send_json({"user": self.scope["user"].username, "titles": titles})
        elif content["do"] == "logout":
            await logout(self.scope)
            await self.send_json({"user": self.scope["user"].username})
        else:
            try:
                left = await sell(content["title"])
            except Book.DoesNotExist:
                await self.send_json({"error": "sold out"})
            else:
                who = self.scope["user"].username
                await self.channel_layer.group_send(
                    self.room, {"type": "tell", "sold": content["title"], "to": who, "left": left}
                )

    async def tell(self, event):
        await self.send_json({key: event[key] for key in ("sold", "to", "left")})


class SyncShop(JsonWebsocketConsumer):
    """The same in synchronous code, which Channels runs in a thread."""

    def connect(self):
        if not self.scope["user"].is_authenticated:
            self.close(code=4401)
            return
        self.room = self.scope["url_route"]["kwargs"]["room"]
        async_to_sync(self.channel_layer.group_add)(self.room, self.channel_name)
        self.accept()

    def receive_json(self, content):
        if content["do"] == "who":
            titles = [book.title for book in Book.objects.order_by("pk")]
            self.send_json({"user": self.scope["user"].username, "titles": titles})
            return
        try:
            with transaction.atomic():
                Author.objects.create(name=f"buyer of {content['title']}")
                book = Book.objects.select_for_update().get(title=content["title"], stock__gt=0)
                book.stock -= 1
                book.save()
        except Book.DoesNotExist:
            self.send_json({"error": "sold out"})
            return
        who = self.scope["user"].username
        event = {"type": "tell", "sold": book.title, "to": who, "left": book.stock}
        async_to_sync(self.channel_layer.group_send)(self.room, event)

    def tell(self, event):
        self.send_json({key: event[key] for key in ("sold", "to", "left")})


async def announce(request):
    """A page that tells the room."""
    name = (await request.auser()).username
    event = {"type": "tell", "sold": "announced", "to": name, "left": await Book.objects.acount()}
    await get_channel_layer().group_send("lobby", event)
    return JsonResponse({"user": name})


def announce_too(request):
    name = request.user.username
    event = {"type": "tell", "sold": "announced", "to": name, "left": Book.objects.count()}
    async_to_sync(get_channel_layer().group_send)("lobby", event)
    return JsonResponse({"user": name})


urlpatterns = [path("announce/", announce), path("announce_too/", announce_too)]
routes = [path("async/<room>/", Shop.as_asgi()), path("sync/<room>/", SyncShop.as_asgi())]
application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": AuthMiddlewareStack(URLRouter(routes))}
)
PLACES = ("async", "sync")


async def client_of(username):
    client = AsyncClient()
    user, _ = await User.objects.aget_or_create(username=username)
    await client.aforce_login(user)
    return client


async def socket_of(client, place, room="lobby"):
    headers = list(ORIGIN)
    if client is not None:
        key = client.cookies[settings.SESSION_COOKIE_NAME].value
        headers.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={key}".encode()))
    socket = WebsocketCommunicator(application, f"/{place}/{room}/", headers=headers)
    connected, code = await socket.connect(timeout=20)
    return (socket if connected else None), code


async def ask(socket, **content):
    await socket.send_json_to(content)
    return await socket.receive_json_from(timeout=20)


async def fill():
    author = await Author.objects.acreate(name="Lem")
    await Book.objects.acreate(title="Solaris", stock=3, author=author)


async def one_socket():
    await fill()
    client = await client_of("ada")
    for place in PLACES:
        assert await socket_of(None, place) == (None, 4401)
        socket, _ = await socket_of(client, place)
        assert await ask(socket, do="who") == {"user": "ada", "titles": ["Solaris"]}
        left = 2 if place == "async" else 1
        sold = {"sold": "Solaris", "to": "ada", "left": left}
        assert await ask(socket, do="sell", title="Solaris") == sold
        assert await ask(socket, do="sell", title="Emma") == {"error": "sold out"}
        buyers = [author.name async for author in Author.objects.filter(name__startswith="buyer")]
        assert set(buyers) == {"buyer of Solaris"}  # what failed was rolled back
        for page in ("announce", "announce_too"):
            assert (await client.get(f"/{page}/")).json() == {"user": "ada"}
            told = {"sold": "announced", "to": "ada", "left": 1}
            assert await socket.receive_json_from(timeout=20) == told
        await socket.disconnect(timeout=20)


async def logging_out():
    await fill()
    client = await client_of("ada")
    socket, _ = await socket_of(client, "async")
    assert await ask(socket, do="logout") == {"user": ""}
    await socket.disconnect(timeout=20)
    assert await socket_of(client, "async") == (None, 4401)
    assert (await client.get("/announce/")).json() == {"user": ""}


async def many_at_once():
    await fill()
    for place in PLACES:
        await Book.objects.filter(title="Solaris").aupdate(stock=4)
        names = [f"{place}{number}" for number in range(6)]
        clients = [await client_of(name) for name in names]
        opened = await asyncio.gather(
            *(socket_of(c, place, name) for c, name in zip(clients, names, strict=True))
        )
        sockets = [socket for socket, _ in opened]
        answers = await asyncio.gather(*(ask(socket, do="who") for socket in sockets))
        assert [answer["user"] for answer in answers] == names
        answers = await asyncio.gather(*(ask(s, do="sell", title="Solaris") for s in sockets))
        sold = [(n, a) for n, a in zip(names, answers, strict=True) if "sold" in a]
        assert [answer["to"] for _, answer in sold] == [name for name, _ in sold]
        assert sorted(answer["left"] for _, answer in sold) == [0, 1, 2, 3]
        assert (await Book.objects.aget(title="Solaris")).stock == 0
        await asyncio.gather(*(socket.disconnect(timeout=20) for socket in sockets))
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert all(map(is_of_a_pool, left)), left


def is_of_a_pool(task):
    """Also a wait of its workers, which is a task of its own on Python 3.11."""
    return task.get_name().startswith("pool") or task.get_coro().__qualname__ == "Event.wait"


site_of.run(one_socket, logging_out, many_at_once)
