"""Messages, kept in cookies, in the session or in either, on the loop."""

import random

import pytest
from asgi import Client
from django.contrib import messages
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.messages.storage.base import BaseStorage
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import override_settings
from django.urls import path
from django.utils.module_loading import import_string
from staying import on_the_loop, urlconf

from django_aio import cooperative, run


def page(request):
    """Shows the messages: a template's context processor reads them, after the view."""
    template = engines["django"].from_string(
        "{% for message in messages %}{{ message }};{% endfor %}"
    )
    return TemplateResponse(request, template)


async def add(request):
    messages.success(request, "coroutine")
    return HttpResponse()


async def show(request):
    return page(request)


async def read(request):
    """Reads them itself."""
    found = await run(lambda: [str(message) for message in messages.get_messages(request)])
    return HttpResponse("".join(f"{message};" for message in found))


@cooperative
def add_sync(request):
    messages.success(request, "function")
    return HttpResponse()


@cooperative
def show_sync(request):
    return page(request)


# A cookie is compressed: nothing in these repeats.
LONG = [random.Random(number).randbytes(1500).hex() for number in range(3)]


async def add_much(request):
    """More than a cookie holds."""
    for text in LONG:
        messages.info(request, text)
    return HttpResponse()


URLS = urlconf(
    path("add/", add),
    path("show/", show),
    path("read/", read),
    path("add-sync/", add_sync),
    path("show-sync/", show_sync),
    path("add-much/", add_much),
)
STORAGES = ["cookie.CookieStorage", "session.SessionStorage", "fallback.FallbackStorage"]


@pytest.fixture(params=STORAGES)
def client(request, persistent):
    storage = f"django.contrib.messages.storage.{request.param}"
    with override_settings(ROOT_URLCONF=URLS, MESSAGE_STORAGE=storage):
        yield Client()


@pytest.mark.parametrize("added", ["add", "add-sync"])
@pytest.mark.parametrize("shown", ["show", "read", "show-sync"])
async def test_added_by_one_request_and_shown_by_another(added, shown, client):
    expected = {"add": "coroutine;", "add-sync": "function;"}[added]
    await client.get(f"/{added}/")
    assert (await client.get(f"/{shown}/")).text == expected
    with on_the_loop():
        assert (await client.get(f"/{added}/")).status == 200
        assert (await client.get(f"/{added}/")).status == 200
        assert (await client.get(f"/{shown}/")).text == expected * 2
        assert (await client.get(f"/{shown}/")).text == ""


async def test_what_a_cookie_does_not_hold(persistent):
    storage = "django.contrib.messages.storage.fallback.FallbackStorage"
    with override_settings(ROOT_URLCONF=URLS, MESSAGE_STORAGE=storage):
        client = Client()
        await client.get("/show/")
        with on_the_loop():
            await client.get("/add-much/")
            assert "sessionid" in client.cookies
            shown = (await client.get("/show/")).text
    assert shown == "".join(f"{text};" for text in LONG)


@pytest.fixture
def made(monkeypatch):
    """The storages that were made, by class."""
    found = []
    init = BaseStorage.__init__

    def __init__(self, *args, **kwargs):
        found.append(type(self).__name__)
        init(self, *args, **kwargs)

    monkeypatch.setattr(BaseStorage, "__init__", __init__)
    return found


class Recording(CookieStorage):
    """A storage of a project's."""

    updates = 0

    def update(self, response):
        type(self).updates += 1
        return super().update(response)


def passed(storage, use=lambda messages: None):
    """Pass a request through the middleware. Returns its storage and the response."""
    request, response = HttpRequest(), HttpResponse()
    request.session = {}
    with override_settings(MESSAGE_STORAGE=storage):
        middleware = MessageMiddleware(lambda request: response)
        middleware.process_request(request)
        use(request)
        middleware.process_response(request, response)
    return request._messages, response


@pytest.mark.parametrize("name", STORAGES)
def test_a_page_without_messages_makes_no_storage(name, made):
    storage = f"django.contrib.messages.storage.{name}"
    found, response = passed(storage)
    assert isinstance(found, import_string(storage))
    assert not response.cookies
    assert made == []
    assert list(found) == []
    assert made


@pytest.mark.parametrize("name", STORAGES)
def test_who_looks_has_the_storage(name):
    kind = import_string(f"django.contrib.messages.storage.{name}")

    def use(request):
        messages.set_level(request, messages.ERROR)
        messages.info(request, "too low")
        messages.error(request, "high enough")
        found = messages.get_messages(request)
        assert len(found) == 1
        assert bool(found)
        assert "high enough" not in found
        assert found.level == messages.ERROR
        del found.level
        assert found.level == messages.INFO
        assert kind.__name__ in repr(found)
        [message] = found
        assert message in found
        assert str(message) == "high enough"

    found, _ = passed(f"django.contrib.messages.storage.{name}", use)
    assert found.used


def test_the_storage_of_a_project_is_made_and_updated():
    found, _ = passed(f"{__name__}.Recording")
    assert type(found) is Recording
    assert Recording.updates == 1


@pytest.mark.parametrize("name", STORAGES[1:])
def test_a_storage_that_needs_a_session_says_so_at_once(name):
    with (
        override_settings(MESSAGE_STORAGE=f"django.contrib.messages.storage.{name}"),
        pytest.raises(ImproperlyConfigured, match="session"),
    ):
        MessageMiddleware(HttpResponse).process_request(HttpRequest())
