"""Requests through the default middleware stay on the loop: no hand-over, no blocking call."""

import functools
import re
import sys
import threading
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from asgi import Client
from asgiref.sync import iscoroutinefunction
from blockbuster import BlockBuster
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import async_only_middleware, sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from django.views import View
from hops import Hops, count_hops
from testapp.models import Author, Book

from django_aio import run

PAGES = ["/json/", "/row/{pk}/", "/template/", "/trusted/", "/form/", "/stream/"]


async def prepare():
    """Data, a logged-in client, and every cache (templates, URLconf, connection) warm."""
    author = await Author.objects.acreate(name="Jane Austen")
    for number in range(3):
        await Book.objects.acreate(title=f"Book {number}", author=author)
    user = await User.objects.acreate_user("reader", password="secret")
    client = Client()
    await run(log_in, client, user)
    for page in PAGES:
        assert (await client.get(page.format(pk=author.pk))).status == 200, page
    response = await client.post("/form/", {"name": "First Author", "born": 1800})
    assert response.status == 302
    return client, author


def log_in(client, user):
    from django.test import Client as DjangoClient

    browser = DjangoClient()
    browser.force_login(user)
    client.cookies.update(browser.cookies)


def unexpected(hops):
    """What may not happen: anything on PostgreSQL, all but aiosqlite's own thread on SQLite."""
    own = hops.by_sqlite() if settings.TEST_DB == "sqlite" else []
    return [hop for hop in hops if hop not in own]


async def test_no_hops(persistent):
    client, author = await prepare()
    with count_hops() as hops:
        for page in PAGES:
            response = await client.get(page.format(pk=author.pk))
            assert response.status == 200, page
        response = await client.post("/form/", {"name": "Emma", "born": 1815})
        assert response.status == 302
        assert (await client.post("/form/", {"name": "Emma", "born": 1815})).status == 200
    assert not unexpected(hops)
    assert await Author.objects.filter(name="Emma").aexists()


async def test_an_unlisted_view_is_counted(persistent):
    """The counter sees what it is there to see."""
    client, _ = await prepare()
    with count_hops() as hops:
        assert (await client.get("/untrusted/")).text == "False"
    assert unexpected(hops)


async def test_nothing_blocks(persistent):
    client, author = await prepare()
    buster = BlockBuster()
    buster.activate()
    try:
        for page in PAGES:
            assert (await client.get(page.format(pk=author.pk))).status == 200, page
        response = await client.post("/form/", {"name": "Persuasion", "born": 1817})
        assert response.status == 302
    finally:
        buster.deactivate()


async def test_blocking_is_found(persistent):
    """The detector sees what it is there to see."""
    import time

    from blockbuster import BlockingError

    buster = BlockBuster()
    buster.activate()
    try:
        with pytest.raises(BlockingError):
            await run(time.sleep, 0.001)
    finally:
        buster.deactivate()


# The table in docs/requests.rst: each row by its name, measured.


def where(request, *args, **kwargs):
    return HttpResponse(f"{threading.current_thread() is threading.main_thread()}")


async def awhere(request, *args, **kwargs):
    return where(request)


def where_as_template(request):
    return TemplateResponse(request, _from_string("{{ request.path }}"))


def _from_string(source):
    return engines["django"].from_string(source)


def fail(request):
    raise ValueError("the view failed")


def not_found(request, exception):
    return HttpResponse("not found", status=404)


async def anot_found(request, exception):
    return not_found(request, exception)


class Sync(View):
    def get(self, request):
        return where(request)


class Coroutine(View):
    async def get(self, request):
        return where(request)


def decorate(view):
    """A decorator of this module."""

    @functools.wraps(view)
    def wrapper(request):
        return view(request)

    return wrapper


# Functions of a module that is on the list in all rows.
LISTED = {"__name__": "polls", "HttpResponse": HttpResponse, "threading": threading}
listed_where = FunctionType(where.__code__, LISTED, "listed_where")
listed_decorate = FunctionType(decorate.__code__, {"__name__": "polls", "functools": functools})


def sync_middleware(get_response):
    def middleware(request):
        return get_response(request)

    return middleware


def sync_middleware_too(get_response):
    return sync_middleware(get_response)


@async_only_middleware
def coroutine_middleware(get_response):
    async def middleware(request):
        return await get_response(request)

    return middleware


@sync_and_async_middleware
def both_middleware(get_response):
    make = coroutine_middleware if iscoroutinefunction(get_response) else sync_middleware
    return make(get_response)


class SyncClass:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_view(self, request, view, args, kwargs):
        return None


class Mixin(MiddlewareMixin):
    def process_request(self, request):
        return None

    def process_response(self, request, response):
        return response


class ViewMixin(MiddlewareMixin):
    def process_view(self, request, view, args, kwargs):
        return None


class ExceptionMixin(MiddlewareMixin):
    def process_exception(self, request, exception):
        return HttpResponse("caught")


class TemplateMixin(MiddlewareMixin):
    def process_template_response(self, request, response):
        return response


class CoroutineHooks(MiddlewareMixin):
    async def process_view(self, request, view, args, kwargs):
        return None


async def acatch(request):
    raise ValueError("the view failed")


async def atemplate(request):
    return where_as_template(request)


# What each row asks for: a view, more middleware than the default, other parts of the URLconf.
ROWS = {
    "coroutine view": (awhere, ()),
    "class-based view with coroutine handlers": (Coroutine.as_view(), ()),
    "synchronous view": (where, ()),
    "class-based view": (Sync.as_view(), ()),
    "synchronous view, `ATOMIC_REQUESTS`": (where, ()),
    "synchronous view that returns a `TemplateResponse`": (where_as_template, ()),
    "synchronous view, its decorator is on the list": (listed_decorate(where), ()),
    "synchronous decorator, its view is on the list": (decorate(listed_where), ()),
    "`handler404` as a function": (None, (), not_found),
    "`handler404` as a coroutine function": (None, (), anot_found),
    "coroutine middleware": (awhere, (coroutine_middleware,)),
    "middleware of both colours": (awhere, (both_middleware,)),
    "synchronous middleware": (awhere, (sync_middleware,)),
    "two such middleware, one after the other": (awhere, (sync_middleware, sync_middleware_too)),
    "synchronous class with `process_view()`": (awhere, (SyncClass,)),
    "`MiddlewareMixin` with `process_request()` and `process_response()`": (awhere, (Mixin,)),
    "`MiddlewareMixin` with `process_view()`": (awhere, (ViewMixin,)),
    "`MiddlewareMixin` with `process_exception()`, an exception": (acatch, (ExceptionMixin,)),
    "`MiddlewareMixin` with `process_template_response()`": (atemplate, (TemplateMixin,)),
    "`MiddlewareMixin` with coroutine hooks": (awhere, (CoroutineHooks,)),
    "synchronous middleware and a synchronous view": (where, (sync_middleware,)),
}
DOCS = Path(__file__).parents[3] / "docs" / "requests.rst"


def documented():
    """The table: {row: (hops if the module is on the list, hops if it is not)}."""
    section = DOCS.read_text().partition(".. _hops:")[2].partition("\n.. _")[0]
    rows = re.findall(r"^   \* - (.+)\n     - (\d)\n     - (\d)$", section, re.MULTILINE)
    return {name: (int(listed), int(unlisted)) for name, listed, unlisted in rows}


def test_the_table_has_the_rows_that_are_measured():
    assert list(documented()) == list(ROWS)


async def hops_of(row, listed):
    """The hand-overs of one request, and the response. Caches are warm."""
    view, middleware, *handlers = ROWS[row]
    urlconf = ModuleType("urlconf_of_a_row")
    urlconf.urlpatterns = [path("", view)] if view else []
    for handler in handlers:
        urlconf.handler404 = handler
    sys.modules.setdefault(__name__, sys.modules[hops_of.__module__])
    with override_settings(
        ROOT_URLCONF=urlconf,
        MIDDLEWARE=[*settings.MIDDLEWARE, *(f"{__name__}.{each.__name__}" for each in middleware)],
        AIO={"COOPERATIVE": ["polls", __name__] if listed else ["polls"]},
    ):
        client = Client()
        await client.get("/")
        with count_hops() as hops:
            response = await client.get("/")
    return hops.work, response


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize("row", ROWS)
async def test_the_table_is_right(row, listed, persistent, monkeypatch):
    if "ATOMIC_REQUESTS" in row:
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    work, response = await hops_of(row, listed)
    expected = documented()[row][0 if listed else 1]
    own = [hop for hop in work if hop in unexpected(Hops(work))]
    assert len(own) == expected, "\n".join(own)
    assert response.status == (404 if "handler404" in row else 200)


@pytest.mark.parametrize("row", [row for row, (view, *_) in ROWS.items() if view is awhere])
async def test_the_view_below_stays_on_the_loop(row, db):
    _, response = await hops_of(row, listed=False)
    assert response.text == "True"
