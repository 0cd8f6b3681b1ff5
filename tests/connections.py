"""One ASGI connection, driven message by message from the server's side."""

import asyncio
import contextlib

from asgi import Client
from django.core.asgi import get_asgi_application


class Connection:
    """Runs the application in a task. What it sends is in `sent`, and comes out of `get()`.

    With `gate` cleared, the application's `send` does not return: a client that reads no further.
    """

    def __init__(self, scope, application=None):
        self.application = application or get_asgi_application()
        self.scope = scope
        self.incoming = asyncio.Queue()
        self.received = 0  # how many messages the application has taken
        self.outgoing = asyncio.Queue()
        self.sent = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None  # raised by `send`

    async def __aenter__(self):
        self.task = asyncio.create_task(self.application(self.scope, self._receive, self._send))
        return self

    async def __aexit__(self, *exc_info):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self.task

    async def _receive(self):
        message = await self.incoming.get()
        self.received += 1
        if message["type"].endswith(".disconnect"):
            self.incoming.put_nowait(message)
        return message

    async def _send(self, message):
        if self.error is not None:
            raise self.error
        self.sent.append(message)
        self.outgoing.put_nowait(message)
        await asyncio.sleep(0)  # as a server's does now and then
        await self.gate.wait()

    def put(self, type, **message):
        self.incoming.put_nowait({"type": type, **message})

    async def get(self):
        async with asyncio.timeout(20):
            return await self.outgoing.get()

    async def ended(self):
        """Wait for the application; raises what it raised."""
        async with asyncio.timeout(20):
            await self.task

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)


def leftover():
    """Tasks of applications that still run."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith(("http", "webs"))]


def http(path, method="GET", **headers):
    """An HTTP connection, its request without a body yet."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Connection(Client().scope(method, path, names))


class Socket(Connection):
    """A websocket connection."""

    def __init__(self, path, extensions=(), subprotocols=(), **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        scope = Client().scope("GET", path, names)
        del scope["method"]
        scope |= {
            "type": "websocket",
            "scheme": "ws",
            "subprotocols": list(subprotocols),
            "extensions": {name: {} for name in extensions},
        }
        super().__init__(scope)
        self.put("websocket.connect")

    async def accepted(self):
        message = await self.get()
        assert message["type"] == "websocket.accept", message
        return message

    async def text(self):
        return (await self.get())["text"]

    def say(self, text):
        self.put("websocket.receive", text=text)

    def leave(self, code=1001):
        self.put("websocket.disconnect", code=code)
