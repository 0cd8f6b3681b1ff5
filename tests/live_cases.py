"""A site and the test cases of its live servers, which `test/test_live.py` runs.

The same cases are run on an in-memory database, by a process of their own.
"""

import asyncio
import json
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, connections, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import LiveServerTestCase, TestCase, override_settings
from django.urls import path
from serving import abandon, websocket
from testapp.models import Author

from django_aio import run
from django_aio.test import ASGILiveServerTestCase, ASGIStaticLiveServerTestCase
from django_aio.test.live import ASGILiveServerThread
from django_aio.urls import websocket as websocket_route

SECONDS = 30
events = {}


def listed():
    return JsonResponse(
        list(Author.objects.order_by("name").values_list("name", flat=True)), safe=False
    )


def names_in_thread(request):
    return listed()


async def names(request):
    return await run(listed)


async def add(request, name):
    async with transaction.atomic():
        await Author.objects.acreate(name=name)
        if "fail" in request.GET:
            raise ZeroDivisionError
    return HttpResponse(status=201)


def add_in_thread(request, name):
    with transaction.atomic():
        Author.objects.create(name=name)
    return HttpResponse(status=201)


async def wait(request, name):
    """Wait for the test in an open savepoint. `name` says which event."""
    async with transaction.atomic():
        await Author.objects.acreate(name=name)
        events[name].set()
        await asyncio.to_thread(events["go"].wait, SECONDS)
    return HttpResponse()


async def stuck(request):
    events["stuck"].set()
    try:
        await asyncio.Event().wait()
    finally:
        events["cut off"].set()


async def slow_write(request, name):
    """Its client has gone when it writes."""
    events["begun"].set()
    await asyncio.to_thread(events["go"].wait, SECONDS)
    for number in range(20):
        await Author.objects.acreate(name=f"{name}{number}")
    return HttpResponse()


async def stream(request):
    async def rows():
        async for author in Author.objects.order_by("name"):
            yield f"{author.name}\n"

    return StreamingHttpResponse(rows())


async def socket(socket):
    await socket.accept()
    async for name in socket:
        await Author.objects.acreate(name=name)
        await socket.send(str(await Author.objects.acount()))


urlpatterns = [
    path("names/", names),
    path("names-in-thread/", names_in_thread),
    path("add/<name>/", add),
    path("add-in-thread/<name>/", add_in_thread),
    path("wait/<name>/", wait),
    path("stuck/", stuck),
    path("slow-write/<name>/", slow_write),
    path("stream/", stream),
    path("thread/", lambda request: HttpResponse(threading.current_thread().name)),
    websocket_route("socket/", socket),
]


class Client:
    """What the cases have in common: requests by urllib, and the names that there should be."""

    def get(self, path):
        try:
            with urllib.request.urlopen(
                f"{self.live_server_url}{path}", timeout=SECONDS
            ) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def names(self, path="/names/"):
        return json.loads(self.get(path)[1])

    def assertNames(self, *expected):
        """To the server, in the bridge and in a thread, and to the test."""
        assert self.names() == list(expected)
        assert self.names("/names-in-thread/") == list(expected)
        found = Author.objects.order_by("name").values_list("name", flat=True)
        assert list(found) == list(expected)

    def setUp(self):
        events.update(
            {name: threading.Event() for name in ("a", "b", "go", "stuck", "cut off", "begun")}
        )
        super().setUp()


class Requests(Client):
    """What holds with a shared transaction and without."""

    def test_both_see_what_either_has_written(self):
        Author.objects.create(name="z")
        assert self.get("/add/y/")[0] == 201
        assert self.get("/add-in-thread/x/")[0] == 201
        self.assertNames(*self.first, "x", "y", "z")

    def test_an_error_undoes_its_own_block_only(self):
        self.get("/add/y/")
        with self.assertLogs("django.request", "ERROR"):
            assert self.get("/add/x/?fail=1")[0] == 500
        self.assertNames(*self.first, "y")

    def test_many_at_once(self):
        added = [f"n{number:02}" for number in range(24)]
        with ThreadPoolExecutor(8) as threads:
            paths = [f"/add{'-in-thread' * (n % 2)}/{name}/" for n, name in enumerate(added)]
            statuses = [answer[0] for answer in threads.map(self.get, paths)]
        assert statuses == [201] * 24
        self.assertNames(*self.first, *added)

    def test_the_test_takes_turns_with_requests(self):
        """A savepoint of the test, and the statements in it, do not come between a request's."""
        with ThreadPoolExecutor(2) as threads:
            request = threads.submit(self.get, "/add/x/")
            for number in range(20):
                with transaction.atomic():
                    Author.objects.create(name=f"y{number:02}")
            assert request.result()[0] == 201
        self.assertNames(*self.first, "x", *(f"y{number:02}" for number in range(20)))

    def test_stream(self):
        self.get("/add/x/")
        assert self.get("/stream/")[1].split() == [*self.first, "x"]

    def test_websocket(self):
        with websocket(self.server_thread.port, "/socket/") as say:
            assert say("x") == str(len(self.first) + 1)
        self.assertNames(*self.first, "x")

    async def test_asynchronous_test(self):
        await Author.objects.acreate(name="z")
        await asyncio.gather(*(asyncio.to_thread(self.get, f"/add/{name}/") for name in "xy"))
        found = [
            name async for name in Author.objects.order_by("name").values_list("name", flat=True)
        ]
        assert found == [*self.first, "x", "y", "z"]
        assert await asyncio.to_thread(self.names) == found

    def test_a_request_that_goes_on_is_cut_off(self):
        abandoned = threading.Thread(
            target=abandon,
            args=(self.server_thread.port, b"GET /stuck/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            kwargs={"when": lambda: events["cut off"].wait(SECONDS)},
        )
        abandoned.start()
        assert events["stuck"].wait(SECONDS)
        self.server_thread.settle()
        assert events["cut off"].is_set()
        abandoned.join()
        self.assertNames(*self.first)


@override_settings(ROOT_URLCONF=__name__)
class Committed(Requests, ASGILiveServerTestCase):
    """As Django's LiveServerTestCase."""

    first = ()

    def test_it_serves_by_asgi_in_its_own_thread(self):
        assert isinstance(self, LiveServerTestCase)
        assert isinstance(self.server_thread, ASGILiveServerThread)
        assert self.live_server_url == f"http://localhost:{self.server_thread.port}"

    def test_a_test_that_waits_in_its_own_transaction(self):
        if connection.vendor != "sqlite" or not connection.is_in_memory_db():
            self.skipTest("needs the one connection of an in-memory database")
        with (
            mock.patch("django_aio.test.memory.TURN_SECONDS", 0.05),
            self.assertLogs("django.request", "ERROR") as logs,
            transaction.atomic(),
        ):
            Author.objects.create(name="y")
            assert self.get("/names/")[0] == 500
        assert "database is locked" in logs.output[0]
        self.assertNames("y")


@override_settings(ROOT_URLCONF=__name__)
class InTransaction(Requests, ASGILiveServerTestCase, TestCase):
    """Everything is rolled back, after each test and at the end of the class."""

    first = ("data",)

    @classmethod
    def setUpTestData(cls):
        cls.author = Author.objects.create(name="data")

    def test_a_request_inside_a_block_of_the_test(self):
        with transaction.atomic():
            Author.objects.create(name="y")
            assert self.get("/add/x/")[0] == 201
            self.assertNames("data", "x", "y")
            transaction.set_rollback(True)
        self.assertNames("data")

    def test_open_savepoints_of_two_requests(self):
        """The second waits until the first has ended, and so does the test's own block."""
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(self.get, "/wait/a/")
            assert events["a"].wait(SECONDS)
            second = threads.submit(self.get, "/wait/b/")
            assert not events["b"].is_set()
            events["go"].set()
            with transaction.atomic():
                Author.objects.create(name="c")
            assert [first.result()[0], second.result()[0]] == [200, 200]
        self.assertNames("a", "b", "c", "data")

    def test_a_client_that_goes_away_does_not_spoil_the_transaction(self):
        abandon(
            self.server_thread.port,
            b"GET /slow-write/x/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            when=lambda: events["begun"].wait(SECONDS),
        )
        events["go"].set()
        self.server_thread.settle()
        assert len(self.names()) == 21

    def test_queries_of_the_server_are_counted(self):
        with self.assertNumQueries(1):
            self.get("/names/")

    def test_connection_of_the_test(self):
        with self.captureOnCommitCallbacks() as callbacks:
            transaction.on_commit(lambda: None)
        assert len(callbacks) == 1
        assert connections["default"].in_atomic_block is True


@override_settings(
    ROOT_URLCONF=__name__,
    STATIC_URL="/static/",
    MEDIA_URL="/media/",
    INSTALLED_APPS=[
        "django_aio",
        "django.contrib.staticfiles",
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "testapp",
    ],
)
class Files(Client, ASGIStaticLiveServerTestCase, TestCase):
    """Static files by the finders, media files by MEDIA_ROOT, the site for the rest."""

    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.enterClassContext(override_settings(MEDIA_ROOT=folder))
        super().setUpClass()

    def test_static_file(self):
        assert "body" in self.get("/static/admin/css/base.css")[1]
        assert self.get("/static/admin/css/nothing.css")[0] == 404
        assert self.static_handler is StaticLiveServerTestCase.static_handler

    def test_media_file(self):
        name = default_storage.save("live.txt", ContentFile(b"media"))
        assert self.get(f"/media/{name}") == (200, "media")
        assert self.get("/media/nothing.txt")[0] == 404
        assert self.get("/media/../live_cases.py")[0] == 404

    def test_the_site(self):
        assert self.names() == []
