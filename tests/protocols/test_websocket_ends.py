"""What happens to a WebSocket's view when its connection ends, and the other way round."""

import asyncio
import logging

import pytest
from connections import Socket, leftover
from django.http import HttpRequest
from django.test import override_settings
from testapp import protocols
from testapp.models import Author

from django_aio.db import chains
from django_aio.protocols import exchange
from django_aio.urls import websocket
from django_aio.websocket import WebSocket, WebSocketDisconnect

pytestmark = pytest.mark.usefixtures("db", "protocol_views")


async def test_a_disconnect_in_receive():
    await Author.objects.acreate(name="a")
    async with Socket("/ws/receiving/") as socket:
        await socket.accepted()
        socket.put("websocket.disconnect", code=3000, reason="bye")
        await socket.ended()
    error = protocols.seen["error"]
    assert isinstance(error, WebSocketDisconnect)
    assert (error.code, error.reason) == (3000, "bye")
    assert protocols.seen["authors"] == 1  # it may tidy up
    assert not leftover()


@pytest.mark.parametrize("path", ["/ws/waiting/", "/ws/tasks/"])
async def test_a_disconnect_cancels(path, caplog):
    async with Socket(path) as socket:
        await socket.accepted()
        await protocols.events["started"].wait()
        socket.leave()
        await socket.ended()
    assert protocols.events["cancelled"].is_set()
    assert not leftover()
    assert not caplog.records


GONE = [OSError("gone"), RuntimeError("Unexpected ASGI message 'websocket.send'")]


@pytest.mark.parametrize("error", GONE, ids=["the client", "the server"])
async def test_a_view_that_writes_notices_that_the_connection_has_gone(caplog, error):
    """Servers say so by either: uvicorn by RuntimeError, where it has closed it itself."""
    async with Socket("/ws/writing/") as socket:
        await socket.accepted()
        await socket.text()
        socket.error = error
        await socket.ended()
    assert not leftover()
    assert not caplog.records


async def test_back_pressure():
    async with Socket("/ws/writing/") as socket:
        await socket.accepted()
        socket.gate.clear()
        for _ in range(20):
            await asyncio.sleep(0)
        sent = protocols.seen.get("sent", 0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert protocols.seen.get("sent", 0) == sent
        for _ in range(5):
            socket.say("x")
        for _ in range(20):
            await asyncio.sleep(0)
        assert socket.received <= 2  # the handshake, and one ahead


async def test_cancelling_the_task_is_not_swallowed():
    async with Socket("/ws/waiting/") as socket:
        await socket.accepted()
        await protocols.events["started"].wait()
        socket.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await socket.ended()
    assert protocols.events["cancelled"].is_set()


async def test_an_error_after_accepting(caplog):
    with caplog.at_level(logging.ERROR, "django.request"):
        async with Socket("/ws/failing/") as socket:
            await socket.accepted()
            assert (await socket.get())["code"] == 1011
            await socket.ended()
    (record,) = caplog.records
    assert record.request.path == "/ws/failing/"
    assert str(record.exc_info[1]) == "the socket failed"


async def test_a_client_that_leaves_before_the_handshake(request_signals):
    socket = Socket("/ws/echo/")
    await socket.incoming.get()
    socket.leave()
    async with socket:
        await socket.ended()
    assert socket.sent == []
    assert request_signals == {"started": 0, "finished": 0}


def blocks(get_response):
    async def middleware(request):
        protocols.events["started"].set()
        await asyncio.Event().wait()

    return middleware


blocks.async_capable, blocks.sync_capable = True, False


async def test_a_client_that_leaves_during_the_handshake(request_signals):
    with override_settings(MIDDLEWARE=[f"{__name__}.blocks"]):
        async with Socket("/ws/echo/") as socket:
            await protocols.events["started"].wait()
            socket.leave()
            await socket.ended()
    assert socket.sent == []
    assert request_signals == {"started": 1, "finished": 1}


async def test_the_views_connection_ends_with_it():
    async with Socket("/ws/querying/") as socket:
        await socket.accepted()
        await socket.text()
        assert len(leftover()) == 1
        assert leftover()[0] in chains.tasks
        socket.leave()
        await socket.ended()
    await asyncio.sleep(0)
    assert set(chains.tasks) <= {asyncio.current_task()}


async def test_a_thousand_aborted_sockets():
    """Some leave at once, some later; afterwards nothing is left."""

    async def visit(number):
        async with Socket("/ws/waiting/" if number % 2 else "/ws/querying/") as socket:
            if number % 3:
                await socket.accepted()
            socket.leave()
            await socket.ended()

    for start in range(0, 1000, 50):
        await asyncio.gather(*(visit(number) for number in range(start, start + 50)))
    await asyncio.sleep(0)
    assert not leftover()
    assert set(chains.tasks) <= {asyncio.current_task()}
    # SQLite cannot give up opening a file: that ends, and the file is closed.
    opening = asyncio.all_tasks() - {asyncio.current_task()}
    if opening:
        await asyncio.wait(opening, timeout=10)
    assert len(asyncio.all_tasks()) == 1


async def test_a_view_that_does_not_end_is_left_behind(monkeypatch, caplog):
    monkeypatch.setattr(exchange, "GRACE", 0.01)
    release = asyncio.Event()

    async def deaf(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                protocols.events["cancelled"].set()

    class Urls:
        urlpatterns = (websocket("deaf/", deaf),)

    with override_settings(ROOT_URLCONF=Urls):
        async with Socket("/deaf/") as socket:
            await socket.accepted()
            socket.leave()
            await socket.ended()
    assert "seconds after it was cancelled" in caplog.text
    release.set()
    await asyncio.gather(*leftover())


async def test_who_sends_after_the_disconnect_is_told_again():
    """Whatever the server would say to it."""
    incoming = iter([{"type": "websocket.disconnect", "code": 3000, "reason": "bye"}])
    sent = []

    async def receive():
        return next(incoming)

    async def send(message):
        sent.append(message)

    socket = WebSocket({"django.request": HttpRequest()}, receive, send)
    await socket.accept()
    with pytest.raises(WebSocketDisconnect):
        await socket.receive()
    with pytest.raises(WebSocketDisconnect) as raised:
        await socket.send("too late")
    assert (raised.value.code, raised.value.reason) == (3000, "bye")
    assert [message["type"] for message in sent] == ["websocket.accept"]
