"""What the development server logs. That it serves is tested with the command, `runserver`."""

import logging

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.test.utils import override_settings

from django_aio.core.servers.basehttp import get_internal_asgi_application

pytest.importorskip("uvicorn", reason="uvicorn is not installed")
from django_aio.core.servers.asgi import Logged

SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/ä/",
    "raw_path": b"/%C3%A4/",
    "query_string": b"a=b%20c",
    "http_version": "1.1",
    "client": ("127.0.0.1", 50000),
}


@pytest.fixture
def records(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("django.server"), "propagate", True)
    caplog.set_level("INFO", "django.server")
    return caplog


async def serve(application, **changes):
    async def discard(message):
        pass

    await Logged(application)({**SCOPE, **changes}, None, discard)


def lines(records):
    return [(record.levelname, record.getMessage()) for record in records.records]


async def missing(scope, receive, send):
    await send({"type": "http.response.start", "status": 404})
    await send({"type": "http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "http.response.body", "body": b"here"})


async def test_status_and_size(records):
    await serve(missing)
    await serve(missing, method="HEAD", query_string=b"")
    assert lines(records) == [
        ("WARNING", '"GET /%C3%A4/?a=b%20c HTTP/1.1" 404 8'),
        ("WARNING", '"HEAD /%C3%A4/ HTTP/1.1" 404 0'),
    ]
    assert records.records[0].server_time  # what the formatter of django.server needs


async def test_without_the_bytes_of_the_path(records):
    await serve(missing, raw_path=None, query_string=b"")
    assert lines(records) == [("WARNING", '"GET /%C3%A4/ HTTP/1.1" 404 8')]


async def test_client_that_went_away(records):
    async def abandoned(scope, receive, send):
        pass

    await serve(abandoned)
    assert lines(records) == [("INFO", "- Broken pipe from ('127.0.0.1', 50000)")]


async def test_application_that_fails(records):
    async def failing(scope, receive, send):
        raise ValueError("before the response")

    with pytest.raises(ValueError, match="before"):
        await serve(failing)
    assert lines(records) == [("ERROR", '"GET /%C3%A4/?a=b%20c HTTP/1.1" 500 0')]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({"type": "websocket.accept"}, 101),
        ({"type": "websocket.close"}, 403),
        ({"type": "websocket.http.response.start", "status": 401}, 401),
    ],
)
async def test_handshakes(records, message, status):
    async def application(scope, receive, send):
        await send(message)
        await send({"type": "websocket.close"})

    await serve(application, type="websocket", method="GET")
    assert [line for _, line in lines(records)] == [f'"GET /%C3%A4/?a=b%20c HTTP/1.1" {status} 0']


async def test_lifespan_is_not_logged(records):
    async def application(scope, receive, send):
        await send({"type": "lifespan.startup.complete"})

    await serve(application, type="lifespan")
    assert lines(records) == []


def test_application():
    assert isinstance(get_internal_asgi_application(), ASGIHandler)
    with (
        override_settings(ASGI_APPLICATION=f"{__name__}.nothing"),
        pytest.raises(ImproperlyConfigured, match="nothing' could not be loaded"),
    ):
        get_internal_asgi_application()
    with override_settings(ASGI_APPLICATION="django_aio.core.servers.basehttp.stop"):
        assert get_internal_asgi_application().__name__ == "stop"
