"""An ASGI client that takes a response message by message, and URLconfs made in a test."""

import asyncio
import contextlib
import types

from asgi import Client
from django.core.asgi import get_asgi_application
from django.test import override_settings
from django.urls import path


def routed(**views):
    """Settings whose URLconf has the given views, each under its own name. Only Django around."""
    urls = types.ModuleType("urls_of_a_test")
    urls.urlpatterns = [path(f"{name}/", view, name=name) for name, view in views.items()]
    return override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[])


class Stream:
    """One request, whose messages the application must wait to hand over.

    `send()` of the application returns when the test has taken the message with `take()`.
    """

    def __init__(self, path, application=None, method="GET", extensions=None, headers=()):
        self._application = application
        self._scope = Client(lambda *args: None).scope(method, path, dict(headers))
        if extensions is not None:
            self._scope["extensions"] = extensions
        self._body = [{"type": "http.request", "body": b"", "more_body": False}]
        self._gone = asyncio.Event()
        self._offered = asyncio.Queue()
        self.task = None

    async def _receive(self):
        if self._body:
            return self._body.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        taken = asyncio.Event()
        self._offered.put_nowait((message, taken))
        await taken.wait()

    async def __aenter__(self):
        application = self._application or get_asgi_application()
        self.task = asyncio.create_task(application(self._scope, self._receive, self._send))
        return self

    async def __aexit__(self, *exc):
        if not self.task.done():
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task

    async def offered(self):
        """Wait for the next message without taking it. Returns it and the event that takes it."""
        get = asyncio.ensure_future(self._offered.get())
        await asyncio.wait([get, self.task], return_when=asyncio.FIRST_COMPLETED)
        if not get.done():
            get.cancel()
            await self.task  # raises what the application raised
            raise AssertionError("the response is over")
        return get.result()

    async def take(self):
        """The next message."""
        message, taken = await self.offered()
        taken.set()
        return message

    async def start(self):
        """The first message of the response: its status, and its headers in lower case."""
        message = await self.take()
        assert message["type"] == "http.response.start"
        headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        return message["status"], headers

    async def chunk(self):
        """The body of the next message."""
        message = await self.take()
        assert message["type"] == "http.response.body"
        return message.get("body", b"")

    async def rest(self):
        """All chunks that are left, when the response has ended by itself."""
        chunks = []
        while True:
            message = await self.take()
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                await self.task
                return [chunk for chunk in chunks if chunk]

    async def disconnect(self):
        """The client goes away; returns when the application has ended."""
        self._gone.set()
        await self.task
