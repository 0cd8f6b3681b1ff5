"""A small ASGI client: one request to the application, on the loop of the test."""

import asyncio
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from django.core.asgi import get_asgi_application


@dataclass
class Response:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cookies: SimpleCookie = field(default_factory=SimpleCookie)

    @property
    def text(self):
        return self.body.decode()


class Client:
    """Keeps cookies between requests. Used by one task at a time."""

    def __init__(self, application=None):
        self.application = application or get_asgi_application()
        self.cookies = SimpleCookie()
        self.disconnect = asyncio.Event()

    def scope(self, method, path, headers):
        path, _, query = path.partition("?")
        cookies = "; ".join(f"{key}={morsel.value}" for key, morsel in self.cookies.items())
        headers = {"host": "testserver", "cookie": cookies, **headers}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items() if v],
            "client": ("127.0.0.1", 50000),
            "server": ("testserver", 80),
        }

    async def request(self, method, path, body=b"", headers=()):
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        response = Response()

        async def receive():
            if messages:
                return messages.pop(0)
            await self.disconnect.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                response.status = message["status"]
                for name, value in message["headers"]:
                    if name.lower() == b"set-cookie":
                        response.cookies.load(value.decode())
                    else:
                        response.headers[name.decode().lower()] = value.decode()
            else:
                response.body += message.get("body", b"")

        await self.application(self.scope(method, path, dict(headers)), receive, send)
        self.cookies.update(response.cookies)
        return response

    async def get(self, path, **headers):
        return await self.request("GET", path, headers=headers)

    async def post(self, path, data, **headers):
        token = self.cookies.get("csrftoken")
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "x-csrftoken": token.value if token else "",
            **headers,
        }
        return await self.request("POST", path, urlencode(data).encode(), headers)
