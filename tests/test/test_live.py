"""Live servers by ASGI: the cases of `live_cases.py`, and how they start and stop."""

import importlib.util
import socket
import subprocess
import sys
import threading
import unittest

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import startup
from django.db import connection
from django.test import LiveServerTestCase, TestCase, override_settings
from live_cases import Committed, Files, InTransaction, listed  # noqa: F401 - pytest collects them
from serving import TESTS, Process
from testapp.models import Author

import django_aio.test
from django_aio.test import ASGILiveServerTestCase, live
from django_aio.test.live import ASGILiveServerThread

pytestmark = pytest.mark.usefixtures("_database")


@override_settings(ROOT_URLCONF="live_cases")
class Case(ASGILiveServerTestCase, TestCase):
    __test__ = False  # tests of ours run it

    def test_nothing(self):
        pass


def outcome(case=Case, name="test_nothing"):
    """Run one test with its class. Return the errors, and whether nothing was left behind."""
    before = set(threading.enumerate())
    result = unittest.TestResult()
    unittest.TestSuite([case(name)]).run(result)
    left = {
        thread for thread in threading.enumerate() if thread not in before and thread.is_alive()
    }
    assert not left
    assert not connection.in_atomic_block
    assert connection.aio is None
    assert "create_cursor" not in vars(connection)
    assert "host" not in vars(connection)
    return "".join(text for _, text in result.errors + result.failures)


def test_nothing_is_left():
    assert outcome() == ""
    port = Case.server_thread.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    Case.server_thread.terminate()  # once more does nothing


def test_everything_is_rolled_back():
    outcome(InTransaction, "test_many_at_once")
    assert not Author.objects.exists()
    connection.close()


def test_an_error_of_the_startup_is_raised_by_the_test_class(caplog):
    async def fail(**kwargs):
        raise ZeroDivisionError("no start")

    startup.connect(fail)
    try:
        errors = outcome()
    finally:
        startup.disconnect(fail)
    assert "The live server did not start: ZeroDivisionError: no start." in errors


def test_the_startup_sees_the_data_of_the_test():
    seen = []

    async def look(**kwargs):
        seen.append([author.name async for author in Author.objects.all()])

    class WithData(Case):
        __test__ = False

        @classmethod
        def setUpTestData(cls):
            Author.objects.create(name="data")

    startup.connect(look)
    try:
        assert outcome(WithData) == ""
    finally:
        startup.disconnect(look)
    assert seen == [["data"]]


def test_a_port_in_use():
    with socket.create_server(("localhost", 0)) as taken:
        case = type("Taken", (Case,), {"port": taken.getsockname()[1], "__test__": False})
        assert "Address already in use" in outcome(case)


def test_without_uvicorn(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find_spec(name)
    )
    errors = outcome()
    assert ImproperlyConfigured.__name__ in errors
    assert "pip install 'django-aio[server]'" in errors


def test_a_server_that_does_not_stop(monkeypatch):
    """Nor starts: the project's application is being imported, say."""
    monkeypatch.setattr(live, "STOP_SECONDS", 0.01)
    thread = ASGILiveServerThread("localhost", live.StaticFilesHandler)
    release = threading.Event()
    monkeypatch.setattr(thread, "get_application", lambda: release.wait(30))
    monkeypatch.setattr(live, "START_SECONDS", 0.01)
    thread.start()
    assert "it was not ready after 0.01 s" in str(thread.error)
    with pytest.raises(RuntimeError, match=r"goes on .* after it was told to stop"):
        thread.terminate()
    release.set()
    thread.join(30)
    assert not thread.is_alive()


def test_the_setting_names_the_application(monkeypatch):
    with override_settings(ASGI_APPLICATION="test_live_application.application"):
        module = type(sys)("test_live_application")

        async def application(scope, receive, send):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"named"})

        module.application = application
        monkeypatch.setitem(sys.modules, module.__name__, module)

        class Named(InTransaction):
            __test__ = False

            def test_named(self):
                assert self.get("/anything/") == (200, "named")

        assert outcome(Named, "test_named") == ""


@override_settings(ROOT_URLCONF="live_cases")
class Swapped(LiveServerTestCase):
    """Django's own class with our thread, as the run of its suite does it."""

    server_thread_class = ASGILiveServerThread
    get = InTransaction.get

    def test_it_serves(self):
        self.assertEqual(self.get("/names/"), (200, "[]"))  # noqa: PT009


def test_in_memory():
    """The same cases where one connection is all there is, by Django's own runner."""
    with Process("live_memory.py", "live_cases", cwd=TESTS) as tests:
        assert tests.end() == 0, tests.output
    assert "OK" in tests.output


def test_names():
    assert django_aio.test.ASGILiveServerTestCase is ASGILiveServerTestCase
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        django_aio.test.nothing  # noqa: B018


def test_the_test_tools_are_imported_when_they_are_asked_for():
    code = "import sys, django_aio.test; assert 'django.test' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
