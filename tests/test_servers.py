"""Every ASGI server that is installed serves the project of served.py, in a child process.

Python warnings are errors in it; its output must have nothing but the server's own lines.
"""

import importlib.util
import re
import signal
import threading

import pytest
from django.db import connection
from serving import (
    SECONDS,
    Process,
    abandon,
    free_port,
    get,
    handshake,
    open_page,
    state,
    stream,
    wait_for_port,
    websocket,
)

COMMANDS = {
    "uvicorn": "uvicorn served:application --port {port} --log-level warning",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} served:application",
    "daphne": "daphne -b 127.0.0.1 -p {port} served:application",
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port} served:application",
}
TROUBLE = re.compile(r"Traceback|Warning|Error|\bERROR\b|never awaited|was destroyed")
# What a process ends with that a SIGTERM stopped in order: some servers raise it again.
STOPPED = (0, -signal.SIGTERM, 128 + signal.SIGTERM)


class Served:
    """A server that runs, and its port."""

    def __init__(self, process, port, name):
        self.process, self.port, self.name = process, port, name

    def stop(self):
        """Stop the server by SIGTERM, and judge what it wrote."""
        assert self.process.end(signal.SIGTERM) in STOPPED
        assert not TROUBLE.search(self.process.output), self.process.output


@pytest.fixture(params=COMMANDS)
def served(request, tmp_path):
    name, port = request.param, free_port()
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    database = str(tmp_path / "served.sqlite3")
    command = COMMANDS[name].format(port=port).split()
    with Process("-m", *command, SERVED_DATABASE=database, DEBUG="0") as process:
        wait_for_port(process, port)
        yield Served(process, port, database[-60:])


def test_pages(served):
    assert get(served.port, "/row/") == (200, "the answer is 42")
    assert get(served.port, "/nowhere/")[0] == 404
    body = b"x" * 1_000_000
    assert get(served.port, "/upload/", method="POST", body=body) == (200, "1000000")
    served.stop()


def test_events_and_their_end(served):
    with stream(served.port, "/events/?dots=..") as response:
        assert response.getheader("Content-Type") == "text/event-stream"
        assert [response.readline() for _ in range(4)] == [b"data: .\n", b"\n"] * 2
        assert state(served.port)["open"] == 1
    assert state(served.port, open=0)["cancelled"] == 1
    served.stop()


def test_disconnect_cancels(served, db):
    """The client goes away in the middle of a slow page, and of an upload."""
    host = f"Host: 127.0.0.1:{served.port}\r\n".encode()

    def waits():
        state(served.port, open=1)
        if connection.vendor == "postgresql":
            wait_for_statements(served.name, ["SELECT pg_sleep(600)"])

    abandon(served.port, b"GET /slow/ HTTP/1.1\r\n" + host + b"\r\n", when=waits)
    assert state(served.port, open=0)["cancelled"] == 1
    abandon(
        served.port, b"POST /upload/ HTTP/1.1\r\n" + host + b"Content-Length: 99\r\n\r\nonly this"
    )
    if connection.vendor == "postgresql":
        wait_for_statements(served.name, [])
    assert get(served.port, "/row/") == (200, "the answer is 42")
    served.stop()


def wait_for_statements(application_name, expected):
    """Wait until the server runs just these: another process ends them when it comes to it."""
    query = "SELECT query FROM pg_stat_activity WHERE application_name = %s AND state <> 'idle'"
    pause = threading.Event()
    for _ in range(SECONDS * 20):
        with connection.cursor() as cursor:
            cursor.execute(query, [application_name])
            running = [text for (text,) in cursor.fetchall()]
        if running == expected:
            return
        pause.wait(0.05)
    raise AssertionError(f"The server runs {running}")


def test_websocket(served):
    with websocket(served.port, "/echo/") as echo:
        assert echo("hello") == "hello"
        assert echo("again") == "again"
        assert state(served.port)["open"] == 1
    state(served.port, open=0)
    served.stop()


def test_websocket_that_is_refused(served):
    with handshake(served.port, "/echo/", origin="https://elsewhere.example") as (*_, status):
        assert status == 403
    with handshake(served.port, "/nowhere/") as (*_, status):
        assert status in (403, 404)  # as far as the server lets the application choose
    assert get(served.port, "/row/") == (200, "the answer is 42")
    # Django logs a refusal with its traceback, where the server shows warnings; and uvicorn takes a
    # refusal by a response for a handshake that was forgotten (its pull request 3138).
    assert served.process.end(signal.SIGTERM) in STOPPED
    assert "Exception in ASGI" not in served.process.output


def test_stops_when_its_clients_have_gone(served):
    client, response = open_page(served.port, "/events/?dots=.")
    assert response.readline() == b"data: .\n"
    served.process.signal(signal.SIGTERM)
    response.close()
    client.close()
    assert served.process.end() in STOPPED
    assert not TROUBLE.search(served.process.output), served.process.output
