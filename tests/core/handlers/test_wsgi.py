"""The tasks of a coroutine view under WSGI share the connection of the request's thread."""

import asyncio

import pytest
from asgiref.sync import async_to_sync
from conftest import postgresql_only
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from staying import urlconf
from testapp.models import Author

pytestmark = pytest.mark.usefixtures("db")


def look():
    sql = "(pg_backend_pid() || ' ' || coalesce(current_setting('app.tenant', true), ''))"
    return Author.objects.raw(f"SELECT 1 AS id, {sql} AS name, 1 AS born")


async def alook():
    [name] = [author.name async for author in look()]
    return name


async def view(request):
    async def in_a_block():
        async with transaction.atomic():
            return await alook()

    found = await asyncio.gather(alook(), in_a_block(), alook(), in_a_block())
    return HttpResponse(",".join({await alook(), *found}))


async def write(request):
    async def create(name):
        async with transaction.atomic():
            await Author.objects.acreate(name=name)
            if name == "bad":
                raise LookupError

    found = await asyncio.gather(*map(create, ["a", "bad", "b"]), return_exceptions=True)
    assert [type(each) for each in found] == [type(None), LookupError, type(None)]
    if "fail" in request.GET:
        raise ZeroDivisionError
    return HttpResponse(str(await Author.objects.acount()))


def tenant(get_response):
    def middleware(request):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('app.tenant', %s, false)", [request.GET["tenant"]])
        return get_response(request)

    return middleware


@sync_and_async_middleware
def nothing(get_response):
    """A middleware whose asynchronous hook returns nothing."""
    return Nothing(get_response)


class Nothing:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    async def process_template_response(self, request, response):
        return None


def rendered(request):
    return TemplateResponse(request, "nowhere.html")


settings = override_settings(ROOT_URLCONF=urlconf(path("", view), path("write", write)))


@postgresql_only
@settings
@override_settings(MIDDLEWARE=[f"{__name__}.tenant"])
def test_one_session_for_a_request():
    """As in a test: what the middleware has set is seen by all of them, in turn."""
    client = Client()
    for name in ("ada", "bob"):
        [found] = client.get("/", {"tenant": name}).content.decode().split(",")
        assert found == look()[0].name
        assert found.endswith(f" {name}")


@settings
@pytest.mark.parametrize("atomic", [False, True])
def test_writes_in_turn(atomic, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
    client = Client(raise_request_exception=False)
    assert client.get("/write").content == b"2"
    assert Author.objects.count() == 2
    Author.objects.all().delete()
    assert client.get("/write?fail=1").status_code == 500
    assert Author.objects.count() == (0 if atomic else 2)


@postgresql_only
@settings
def test_with_a_pool_each_has_its_own(pooled):
    found = Client().get("/").content.decode().split(",")
    assert len(found) > 1


@postgresql_only
@settings
@override_settings(MIDDLEWARE=[f"{__name__}.tenant"])
def test_with_a_pool_too_they_see_what_a_middleware_has_set(pooled):
    client = Client()
    for name in ("ada", "bob"):
        found = set(client.get("/", {"tenant": name}).content.decode().split(","))
        assert {one.rpartition(" ")[2] for one in found} == {name}


@postgresql_only
@settings
def test_tasks_that_are_the_first_to_query_open_one_connection(monkeypatch):
    """All of them share it; one each would be left open."""
    connections.close_all()
    assert len(Client().get("/").content.decode().split(",")) == 1


@postgresql_only
def test_elsewhere_tasks_have_their_own():
    """A command that gathers queries wants them at the same time."""

    async def pids():
        return set(await asyncio.gather(alook(), alook()))

    assert len(async_to_sync(pids)()) == 2


@override_settings(ROOT_URLCONF=urlconf(path("", rendered)), MIDDLEWARE=[f"{__name__}.nothing"])
def test_an_asynchronous_hook_that_returns_nothing_is_named():
    """Django asks the adapted method whose it is."""
    with pytest.raises(ValueError, match=r"Nothing\.process_template_response didn't"):
        Client().get("/")
