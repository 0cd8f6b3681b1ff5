"""`runserver`, in a child process as a developer uses it, on the project of served.py."""

import importlib.util
import os
import re
import signal
import socket

import pytest
from django.core.management.commands.runserver import Command
from serving import (
    TESTS,
    Process,
    free_port,
    get,
    handshake,
    state,
    stream,
    wait_for_port,
    websocket,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("uvicorn") is None, reason="uvicorn is not installed"
)
READY = "Quit the server with CONTROL-C."
HAS_WEBSOCKETS = any(importlib.util.find_spec(name) for name in ("websockets", "wsproto"))
# What django.server writes: a time, the request, the status, the size.
LINE = r'\[\d\d/\w{{3}}/\d{{4}} \d\d:\d\d:\d\d\] "{}" {} {}\n'


@pytest.fixture
def start(tmp_path):
    """Start `runserver` with some options; wait until it serves."""
    processes = []

    def start(*options, wait=True, script=(str(TESTS / "served.py"),), **environment):
        database = str(tmp_path / "served.sqlite3")
        environment = {"DJANGO_COLORS": "nocolor", "SERVED_DATABASE": database, **environment}
        process = Process(*script, "runserver", *map(str, options), cwd=tmp_path, **environment)
        processes.append(process)
        if wait:
            process.wait_for(READY)
        return process

    yield start
    for process in processes:
        process.__exit__()


def stop(process, number=signal.SIGINT, status=0):
    """Stop it, with a stream that is still open, and judge what it wrote."""
    assert process.end(number) == status
    assert "Traceback" not in process.output, process.output
    assert "Error" not in process.output, process.output


@pytest.mark.parametrize(
    "apps",
    [
        "django.contrib.staticfiles,django_aio",
        "django_aio,django.contrib.staticfiles",
        "django_aio",
    ],
)
def test_serves_asgi(start, apps):
    port = free_port()
    process = start(port, "--noreload", SERVED_APPS=apps)
    assert f"development server at http://127.0.0.1:{port}/\n" in process.output
    assert "Starting WSGI" not in process.output
    assert "Performing system checks...\n\nSystem check identified" in process.output
    assert get(port, "/row/") == (200, "the answer is 42")
    assert get(port, "/static/books.html")[0] == (404 if apps == "django_aio" else 200)
    assert get(port, "/static/none.html?a=b%20c")[0] == 404
    with stream(port, "/events/?dots=.") as response:
        assert response.readline() == b"data: .\n"
        stop(process)
    assert re.search(LINE.format("GET /row/ HTTP/1.1", 200, 16), process.output)
    assert re.search(LINE.format(r"GET /static/none.html\?a=b%20c HTTP/1.1", 404, r"\d+"),
                     process.output)  # fmt: skip
    assert "uvicorn" not in process.output.lower()


def test_sigterm(start):
    port = free_port()
    process = start(port, "--noreload")
    with stream(port, "/events/?dots=.") as response:
        assert response.readline() == b"data: .\n"
        stop(process, signal.SIGTERM, -signal.SIGTERM)


def test_failing_view(start):
    port = free_port()
    process = start(port, "--noreload")
    status, text = get(port, "/fail/")
    assert status == 500
    assert "the view failed" in text  # Django's debug page
    assert process.end(signal.SIGINT) == 0
    assert process.output.count("ValueError: the view failed") == 1
    assert re.search(LINE.format("GET /fail/ HTTP/1.1", 500, r"\d+"), process.output)


def test_static_files(start):
    port = free_port()
    process = start(port, "--noreload", "--nostatic")
    assert get(port, "/static/books.html")[0] == 404
    stop(process)
    process = start(port, "--noreload", DEBUG="0")
    assert get(port, "/static/books.html")[0] == 404
    stop(process)
    process = start(port, "--noreload", "--insecure", DEBUG="0")
    assert get(port, "/static/books.html")[0] == 200
    stop(process)


@pytest.mark.skipif(not HAS_WEBSOCKETS, reason="no WebSocket library for uvicorn is installed")
def test_websockets(start):
    port = free_port()
    process = start(port, "--noreload")
    with handshake(port, "/echo/", origin="https://elsewhere.example") as (*_, status):
        assert status == 403
    with websocket(port, "/echo/") as echo:
        assert echo("hello") == "hello"
        assert process.end(signal.SIGINT) == 0
    assert "ASGI callable" not in process.output
    for status in (101, 403):
        assert re.search(LINE.format("GET /echo/ HTTP/1.1", status, r"\d+"), process.output)


def test_asgi_application(start):
    port = free_port()
    process = start(port, "--noreload", SERVED_ASGI="served.application")
    assert get(port, "/front/") == (200, "in front of Django")
    assert get(port, "/static/books.html")[0] == 200
    stop(process)


def test_asgi_application_that_is_not_there(start):
    process = start(free_port(), "--noreload", SERVED_ASGI="served.nothing", wait=False)
    assert process.end() == 1
    assert "The ASGI application 'served.nothing' could not be loaded" in process.output


def test_wsgi(start):
    port = free_port()
    process = start(port, "--noreload", "--wsgi", "--nothreading")
    assert "Starting ASGI" not in process.output
    assert "uvicorn" not in process.output
    assert get(port, "/row/") == (200, "the answer is 42")
    assert get(port, "/static/books.html")[0] == 200
    # Not stopped: wsgiref loses a SIGINT that comes at the end of a request.


def test_without_uvicorn(start, tmp_path):
    script = tmp_path / "without.py"
    script.write_text(
        "import runpy, sys\n"
        "sys.modules['uvicorn'] = None\n"
        f"runpy.run_path({str(TESTS / 'served.py')!r}, run_name='__main__')\n"
    )
    port = free_port()
    process = start(port, "--noreload", script=(str(script),))
    process.wait_for("pip install 'django-aio[server]'")
    assert "Starting ASGI" not in process.output
    assert get(port, "/row/") == (200, "the answer is 42")


def test_port_in_use(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = start(other.getsockname()[1], "--noreload", wait=False)
        assert process.end() == 1
    assert process.output.endswith("Error: That port is already in use.\n")


def test_ipv6(start):
    port = free_port()
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    process = start(port, "-6", "--noreload")
    assert f"development server at http://[::1]:{port}/\n" in process.output
    assert get(port, "/row/", host="::1") == (200, "the answer is 42")
    stop(process)


def test_https(start):
    port = free_port()
    process = start(port, "--noreload")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert client.recv(1) == b""
    process.wait_for("You're accessing the development server over HTTPS, but it only supports")
    stop(process)


@pytest.fixture
def project(start, tmp_path):
    """A `runserver` with its reloader, on a URLconf that a test may change."""
    urls, port = tmp_path / "reloaded.py", free_port()
    urls.write_text("from served import urlpatterns\n")
    path = os.pathsep.join(map(str, (tmp_path, TESTS, TESTS.parent)))
    return start(port, PYTHONPATH=path, SERVED_URLCONF="reloaded"), port, urls


def change(process, path, text, until, times=1):
    """Write a file until it is noticed: the reloader may not have seen it before the change."""
    for second in range(60):
        path.write_text(text)
        os.utime(path, (second, second))  # another time than before
        if process.has(until, times, seconds=2):
            return
    raise AssertionError(process.output)


def test_reload(project):
    process, port, urls = project
    first = state(port)["pid"]
    with stream(port, "/events/?dots=.") as response:  # does not hold up the reload
        assert response.readline() == b"data: .\n"
        change(process, urls, "from served import urlpatterns  # changed\n", READY, times=2)
    assert state(port)["pid"] != first
    assert "reloaded.py changed, reloading." in process.output
    with stream(port, "/events/?dots=.") as response:
        assert response.readline() == b"data: .\n"
        stop(process)
    # The child had the time to end in order.
    assert process.output.count('"GET /events/?dots=. HTTP/1.1" 200') == 2


def test_reload_after_an_error(project):
    process, port, urls = project
    error = "ImportError: cannot import name 'nothing'"
    change(process, urls, "from served import nothing\n", error)
    change(process, urls, "from served import urlpatterns\n", READY, times=2)
    assert get(port, "/row/") == (200, "the answer is 42")
    assert process.end(signal.SIGINT) == 0


def test_a_stuck_thread_does_not_hold_up_the_reload(project):
    process, port, urls = project
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET /stuck/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        first = state(port, open=1)["pid"]
        change(process, urls, "from served import urlpatterns  # changed\n", READY, times=2)
    assert state(port, open=0)["pid"] != first
    stop(process)


def test_a_stuck_thread_does_not_hold_up_the_end(start):
    port = free_port()
    process = start(port, "--noreload")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET /stuck/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        state(port, open=1)
        stop(process)


def test_a_command_with_its_own_server_has_no_option():
    class Own(Command):
        server_cls = object

    assert "--wsgi" in Command().create_parser("manage.py", "runserver").format_help()
    assert "--wsgi" not in Own().create_parser("manage.py", "runserver").format_help()


@pytest.mark.skipif(importlib.util.find_spec("daphne") is None, reason="daphne is not installed")
def test_daphne_before_us(start):
    """Its command has a server of its own, and `--noasgi` means Django's WSGI server."""
    environment = {
        "SERVED_APPS": "daphne,django.contrib.staticfiles,django_aio",
        "SERVED_ASGI": "served.application",
    }
    port = free_port()
    process = start(port, "--noreload", **environment)
    assert "Starting ASGI/Daphne" in process.output
    wait_for_port(process, port)
    assert get(port, "/row/") == (200, "the answer is 42")
    stop(process)
    process = start(port, "--noreload", "--noasgi", **environment)
    assert "Starting ASGI" not in process.output
    assert get(port, "/row/") == (200, "the answer is 42")
