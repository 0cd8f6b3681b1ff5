"""Messages, kept in cookies, in the session or in either, on the loop."""

import random

import pytest
from asgi import Client
from django.contrib import messages
from django.http import HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import override_settings
from django.urls import path
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
