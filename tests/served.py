"""A Django project in one file, for tests that start a server: `served:application`, or a command.

    SERVED_DATABASE=/path/to/file python tests/served.py runserver 8000

`/state/` tells what the process has seen, so that a test can wait for it.
"""

import asyncio
import os
import sys
import threading
from pathlib import Path

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management import execute_from_command_line

if os.environ.get("TEST_DB") == "postgresql":
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "NAME": "postgres",
        "OPTIONS": {
            "pool": {"min_size": 1, "max_size": 4, "timeout": 5},
            "application_name": os.environ["SERVED_DATABASE"][-60:],
        },
    }
else:
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SERVED_DATABASE"],
        "CONN_MAX_AGE": 60,
    }

if not settings.configured:
    settings.configure(
        DEBUG=os.environ.get("DEBUG", "1") == "1",
        ALLOWED_HOSTS=["127.0.0.1", "[::1]"],
        SECRET_KEY="only for the tests",
        ROOT_URLCONF=os.environ.get("SERVED_URLCONF", "served"),
        STATIC_URL="static/",
        STATICFILES_DIRS=[Path(__file__).parent / "testapp" / "templates"],
        DATABASES={"default": database},
        INSTALLED_APPS=os.environ.get("SERVED_APPS", "django.contrib.staticfiles,django_aio").split(
            ","
        ),
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        USE_TZ=True,
        **({"ASGI_APPLICATION": os.environ["SERVED_ASGI"]} if "SERVED_ASGI" in os.environ else {}),
    )

from django.core.asgi import get_asgi_application
from django.db import connection
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from django_aio.urls import websocket

state = {"open": 0, "cancelled": 0}
changed = asyncio.Condition()


class Noted:
    """Notes in `state` that a view is open, and whether it was cancelled."""

    async def __aenter__(self):
        await note(open=1)

    async def __aexit__(self, kind, error, traceback):
        # The generator of a stream may be closed rather than cancelled.
        await note(open=-1, cancelled=kind in (asyncio.CancelledError, GeneratorExit))


async def note(**changes):
    for name, change in changes.items():
        state[name] += change
    async with changed:
        changed.notify_all()


async def show_state(request):
    """The state, once it is what the query string asks for."""
    wanted = {name: int(value) for name, value in request.GET.items()}
    async with changed:
        await changed.wait_for(lambda: wanted.items() <= state.items())
    return JsonResponse({"pid": os.getpid(), **state})


async def row(request):
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT 40 + 2")
        (answer,) = await cursor.fetchone()
    return HttpResponse(f"the answer is {answer}")


async def events(request):
    """Server-sent events, one for each `.` of the query string, then nothing until the end."""

    async def lines():
        async with Noted():
            for dot in request.GET["dots"]:
                yield f"data: {dot}\n\n"
            await asyncio.Event().wait()

    return StreamingHttpResponse(lines(), content_type="text/event-stream")


async def slow(request):
    """Waits for a statement where the database can sleep, else for nothing."""
    async with Noted():
        if connection.vendor == "postgresql":
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT pg_sleep(600)")
        await asyncio.Event().wait()


def stuck(request):
    """Blocks its thread, as a synchronous view may, for longer than anybody waits."""
    async_to_sync(note)(open=1)
    threading.Event().wait(600)


async def upload(request):
    return HttpResponse(str(len(request.body)))


async def fail(request):
    raise ValueError("the view failed")


async def echo(socket):
    async with Noted():
        await socket.accept()
        async for message in socket:
            await socket.send(message)


urlpatterns = [
    websocket("echo/", echo),
    path("state/", show_state),
    path("row/", row),
    path("events/", events),
    path("slow/", slow),
    path("stuck/", stuck),
    path("upload/", upload),
    path("fail/", fail),
]


async def application(scope, receive, send):
    """Django, and a page in front of it."""
    if scope["type"] == "http" and scope["path"] == "/front/":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in front of Django"})
    else:
        await django_application(scope, receive, send)


if __name__ == "__main__":
    execute_from_command_line(sys.argv)
else:
    django_application = get_asgi_application()
