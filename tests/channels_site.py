"""A site with Channels, in one file: `python channels_site.py router|route` checks it.

`router`: Channels' ProtocolTypeRouter, with our application for HTTP and AuthMiddlewareStack, which
reads the session from the database, round a consumer. `route`: the same consumer as a websocket
route of the URLconf, behind the project's middleware.
"""

import asyncio
import sys
import tempfile

import django
from django.conf import settings

_directory = tempfile.TemporaryDirectory()
settings.configure(
    SECRET_KEY="only for the tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django_aio",
        "daphne",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "channels",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{_directory.name}/db.sqlite3",
            "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        }
    },
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    USE_TZ=True,
)
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.db import database_sync_to_async  # noqa: E402
from channels.generic.websocket import (  # noqa: E402
    AsyncJsonWebsocketConsumer,
    JsonWebsocketConsumer,
)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.testing import WebsocketCommunicator  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path, websocket  # noqa: E402


class Consumer(AsyncJsonWebsocketConsumer):
    """Says who its user is, and how many there are: natively, and as Channels does it."""

    groups = ("all",)

    async def receive_json(self, content):
        users = await User.objects.acount()
        again = await database_sync_to_async(User.objects.count)()
        room = self.scope["url_route"]["kwargs"]["room"]
        answer = {"user": self.scope["user"].username, "users": [users, again], "room": room}
        await self.channel_layer.group_send("all", {"type": "tell", "answer": answer})

    async def tell(self, event):
        await self.send_json(event["answer"])


class SyncConsumer(JsonWebsocketConsumer):
    """The same in synchronous code, which Channels runs in a thread."""

    def receive_json(self, content):
        count = User.objects.count()
        room = self.scope["url_route"]["kwargs"]["room"]
        self.send_json({"user": self.scope["user"].username, "users": [count, count], "room": room})


async def who(request):
    return JsonResponse({"user": (await request.auser()).username})


urlpatterns = [
    path("who/", who),
    websocket("ws/<room>/", Consumer.as_asgi()),
    websocket("sync/<room>/", SyncConsumer.as_asgi()),
]

router = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("ws/<room>/", Consumer.as_asgi()),
                    path("sync/<room>/", SyncConsumer.as_asgi()),
                ]
            )
        ),
    }
)


async def check(application):
    user = await User.objects.acreate(username="ada")
    client = AsyncClient()
    await client.aforce_login(user)
    assert (await client.get("/who/")).json() == {"user": "ada"}
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies['sessionid'].value}".encode()
    headers = [(b"cookie", cookie), (b"host", b"testserver")]
    for place in ("ws", "sync"):
        socket = WebsocketCommunicator(application, f"/{place}/lobby/", headers=headers)
        connected, _ = await socket.connect(timeout=20)
        assert connected
        await socket.send_json_to({})
        answer = await socket.receive_json_from(timeout=20)
        assert answer == {"user": "ada", "users": [1, 1], "room": "lobby"}, answer
        await socket.disconnect()
    assert asyncio.all_tasks() == {asyncio.current_task()}


if __name__ == "__main__":
    sys.modules["channels_site"] = sys.modules["__main__"]
    call_command("migrate", verbosity=0)
    asyncio.run(check(router if sys.argv[1] == "router" else get_asgi_application()))
    print("ok")
