"""What a request leaves in its context is not the next one's, of whatever the server starts."""

import asyncio
from contextvars import ContextVar

import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.db import connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import get_urlconf, path, set_urlconf
from django.utils import timezone, translation
from django.views.decorators.csrf import csrf_exempt
from staying import urlconf
from testapp.models import Author

from django_aio.core.handlers.contexts import called_in

pytestmark = pytest.mark.usefixtures("db")
mark = ContextVar("mark", default="nothing")


@csrf_exempt
async def leave(request):
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")
    mark.set("left")
    await Author.objects.aexists()
    return HttpResponse("left")


def leave_in_bridge(request):
    translation.activate("fr")
    mark.set("left")
    set_urlconf("left.urls")
    return HttpResponse("left")


async def in_transaction(request):
    async def stream():
        async with transaction.atomic():
            await Author.objects.acreate(name="stream")
            yield "a"
            await asyncio.sleep(0.01)
        yield "b"

    return StreamingHttpResponse(stream())


async def look(request):
    await Author.objects.acreate(name="second")
    language, zone = translation.get_language(), timezone.get_current_timezone_name()
    is_root = get_urlconf() == settings.ROOT_URLCONF
    return HttpResponse(f"{language} {zone} {mark.get()} {is_root}")


urls = urlconf(
    path("leave", leave),
    path("bridge", leave_in_bridge),
    path("stream", in_transaction),
    path("look", look),
)


class Server:
    """Starts one request from inside another, as servers do that pipeline."""

    def __init__(self, pages, *, starts_in):
        self.pages, self.starts_in = pages, starts_in
        self.answers, self.done = {}, asyncio.Event()
        self.tasks = []
        self.handler = ASGIHandler()

    async def serve(self):
        self.next()
        await asyncio.wait_for(self.done.wait(), 20)
        await asyncio.wait(self.tasks)
        return self.answers

    def next(self):
        if self.pages:
            self.tasks.append(asyncio.create_task(self.request(self.pages.pop(0))))

    async def request(self, page):
        body, started, received = b"", False, False

        async def receive():
            nonlocal received, started
            await asyncio.sleep(0)
            if not received:
                received = True
                return {"type": "http.request", "body": b"x" * 100, "more_body": False}
            if self.starts_in == "receive" and not started:
                started = True
                self.next()
            return await asyncio.Event().wait()

        async def send(message):
            nonlocal body, started
            await asyncio.sleep(0)
            body += message.get("body", b"")
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.answers[page] = body.decode()
                if not started:
                    started = True
                    self.next()
                if not self.pages:
                    self.done.set()

        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/{page}",
            "query_string": b"",
            "headers": [(b"host", b"testserver")],
            "http_version": "1.1",
            "scheme": "http",
        }
        await self.handler(scope, receive, send)


@pytest.mark.parametrize("starts_in", ["send", "receive"])
@pytest.mark.parametrize("first", ["leave", "bridge", "stream"])
async def test_the_next_request_finds_nothing(first, starts_in):
    with override_settings(ROOT_URLCONF=urls):
        found = await Server([first, "look"], starts_in=starts_in).serve()
    assert found["look"] == "en-us America/Chicago nothing True"
    names = [author.name async for author in Author.objects.order_by("name")]
    assert names == ["second"] + ["stream"] * (first == "stream")


async def test_what_is_called_elsewhere():
    """Each step of it, also what is thrown in; it returns, raises and is cancelled as ever."""
    import contextvars

    context = contextvars.copy_context()
    context.run(mark.set, "elsewhere")
    seen = []

    async def call(what):
        seen.append(mark.get())
        try:
            await asyncio.sleep(0 if what != "waits" else 60)
        finally:
            seen.append(mark.get())
        if what == "fails":
            raise LookupError(what)
        return what

    elsewhere = called_in(context, call)
    assert await elsewhere("returns") == "returns"
    with pytest.raises(LookupError):
        await elsewhere("fails")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await elsewhere("waits")
    assert seen == ["elsewhere"] * 6
    assert mark.get() == "nothing"


async def look_at_session(request):
    before = connection.aio.session
    await Author.objects.acount()
    return HttpResponse(f"{before is not None} {len(connection.queries)}")


@override_settings(ROOT_URLCONF=urlconf(path("look", look_at_session)))
@pytest.mark.parametrize("debug", [False, True])
async def test_a_server_that_was_started_under_a_connection_with_state(debug):
    """Its requests are nobody's children: they have connections, and logs, of their own."""
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT 1")
    with override_settings(DEBUG=debug):
        found = await Server(["look", "look"], starts_in="send").serve()
    assert found == {"look": f"False {1 if debug else 0}"}
