"""What surrounds `dispatch()` surrounds its asynchronous handler."""

import inspect

import pytest
from asgi import Client
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import path
from django.utils import translation
from django.utils.decorators import method_decorator
from django.views import View
from staying import urlconf
from testapp.models import Author

pytestmark = pytest.mark.usefixtures("db")


class Handlers(View):
    async def get(self, request):
        await Author.objects.acreate(name="a")
        if "fail" in request.GET:
            raise ZeroDivisionError
        return HttpResponse(f"{connection.in_atomic_block} {translation.get_language()}")


@method_decorator(transaction.atomic, name="dispatch")
class Decorated(Handlers):
    """The block by a decorator."""


class Mixin:
    def dispatch(self, request, *args, **kwargs):
        with transaction.atomic():
            return super().dispatch(request, *args, **kwargs)


class Mixed(Mixin, Handlers):
    """The block by a mixin."""


def in_block(view):
    """A project's decorator for synchronous views."""

    def wrapper(request, *args, **kwargs):
        with transaction.atomic():
            return view(request, *args, **kwargs)

    return wrapper


@method_decorator(in_block, name="get")
class HandlerDecorated(Handlers):
    """The block round the handler itself."""


class Awaited(Handlers):
    """The block in a coroutine."""

    async def dispatch(self, request, *args, **kwargs):
        async with transaction.atomic():
            return await super().dispatch(request, *args, **kwargs)


@method_decorator(translation.override("de"), name="dispatch")
class Translated(Decorated):
    """Another context manager."""


class Helper(Handlers):
    """A synchronous `dispatch()` that returns a coroutine of its own, as stock Django needs it."""

    def dispatch(self, request, *args, **kwargs):
        answer = super().dispatch(request, *args, **kwargs)
        assert inspect.isawaitable(answer)

        async def add_header():
            response = await answer
            response["X-Helped"] = "yes"
            return response

        return add_header()


class TooLate(Handlers):
    """The block is entered when the handler has run already."""

    def dispatch(self, request, *args, **kwargs):
        answer = super().dispatch(request, *args, **kwargs)

        async def in_block():
            async with transaction.atomic():
                return await answer

        return in_block()


VIEWS = {"decorated": Decorated, "mixed": Mixed, "awaited": Awaited, "translated": Translated}
VIEWS["handler decorated"] = HandlerDecorated


def settings_for(view):
    return override_settings(ROOT_URLCONF=urlconf(path("", view.as_view())))


@pytest.mark.parametrize("name", VIEWS)
async def test_the_handler_runs_inside(name):
    with settings_for(VIEWS[name]):
        response = await Client().request("GET", "/")
    language = "de" if name == "translated" else "en-us"
    assert response.text == f"True {language}"
    assert await Author.objects.acount() == 1


@pytest.mark.parametrize("name", VIEWS)
async def test_its_error_rolls_back(name):
    with settings_for(VIEWS[name]):
        response = await Client().request("GET", "/?fail=1")
    assert response.status == 500
    assert await Author.objects.acount() == 0


@pytest.mark.parametrize("name", VIEWS)
def test_under_wsgi(name):
    with settings_for(VIEWS[name]):
        client = DjangoClient(raise_request_exception=False)
        assert client.get("/?fail=1").status_code == 500
        assert Author.objects.count() == 0
        assert client.get("/").content.startswith(b"True")


async def test_a_helper_gets_an_awaitable():
    with settings_for(Helper):
        response = await Client().request("GET", "/")
    assert response.headers["x-helped"] == "yes"


async def test_a_block_that_is_entered_too_late_is_an_error(caplog):
    with settings_for(TooLate):
        response = await Client().request("GET", "/")
    assert response.status == 500
    assert "The handler of this view ran when dispatch() called it, before this" in caplog.text


@pytest.mark.parametrize("name", ["mixed", "translated"])
async def test_inside_the_block_of_the_request(name, monkeypatch):
    """That was open when the handler ran."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    with settings_for(VIEWS[name]):
        response = await Client().request("GET", "/")
    assert response.text.startswith("True")
