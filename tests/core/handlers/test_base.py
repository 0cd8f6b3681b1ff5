"""Middleware of both colours, of modules on and off the list; handlers that stay as before."""

import asyncio
import threading

import pytest
from asgi import Client
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import AsyncClient, RequestFactory, override_settings
from django.utils.decorators import async_only_middleware, sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from hops import count_hops

from django_aio import cooperative, in_bridge

seen: list[str] = []


@pytest.fixture(autouse=True)
def _empty():
    seen.clear()


def note(name):
    on_loop = threading.current_thread() is threading.main_thread()
    seen.append(f"{name} {'loop' if on_loop else 'thread'}")


@async_only_middleware
def coroutine_middleware(get_response):
    async def middleware(request):
        await asyncio.sleep(0)
        note("coroutine")
        response = await get_response(request)
        note("coroutine again")
        return response

    return middleware


def sync_middleware(get_response):
    def middleware(request):
        note("sync")
        return get_response(request)

    return middleware


@cooperative
def cooperative_middleware(get_response):
    def middleware(request):
        note("cooperative")
        assert in_bridge()
        return get_response(request)

    return middleware


@sync_and_async_middleware
def both_middleware(get_response):
    if asyncio.iscoroutinefunction(get_response):

        async def middleware(request):
            note("both as coroutine")
            return await get_response(request)
    else:

        def middleware(request):
            note("both as function")
            return get_response(request)

    return middleware


class Mixin(MiddlewareMixin):
    def process_request(self, request):
        note("process_request")

    def process_view(self, request, view, args, kwargs):
        note("process_view")

    def process_exception(self, request, exception):
        note("process_exception")
        return HttpResponse(f"caught {exception}")

    def process_response(self, request, response):
        note("process_response")
        return response


def path(thing):
    return f"{__name__}.{thing.__name__}"


async def get(url, *middleware):
    import sys

    sys.modules.setdefault(__name__, sys.modules[get.__module__])
    with override_settings(MIDDLEWARE=[path(each) for each in middleware]):
        return await Client().get(url)


async def test_coroutine_middleware_stays_on_the_loop():
    with count_hops() as hops:
        assert (await get("/json/", coroutine_middleware)).status == 200
    assert seen == ["coroutine loop", "coroutine again loop"]
    assert not hops


async def test_cooperative_middleware_runs_in_the_bridge():
    with count_hops() as hops:
        assert (await get("/json/", cooperative_middleware)).status == 200
    assert seen == ["cooperative loop"]
    assert not hops


async def test_sync_middleware_runs_in_a_thread_and_the_view_does_not():
    assert (await get("/async-class/", sync_middleware)).text == "True"
    assert seen == ["sync thread"]


async def test_middleware_of_both_kinds_is_used_as_a_coroutine():
    assert (await get("/json/", both_middleware)).status == 200
    assert seen == ["both as coroutine loop"]


async def test_all_kinds_together():
    kinds = (sync_middleware, coroutine_middleware, both_middleware, cooperative_middleware)
    assert (await get("/async-class/", *kinds)).text == "True"
    assert [name.split()[0] for name in seen] == [
        "sync",
        "coroutine",
        "both",
        "cooperative",
        "coroutine",
    ]


async def test_hooks_of_a_class():
    assert (await get("/fail/", Mixin)).text == "caught the view failed"
    assert [name.split()[0] for name in seen] == [
        "process_request",
        "process_view",
        "process_exception",
        "process_response",
    ]
    assert all(name.endswith("thread") for name in seen)


async def test_djangos_asynchronous_test_client_uses_the_same_path():
    response = await AsyncClient().get("/async-class/")
    assert response.content == b"True"


def test_wsgi_is_unchanged():
    handler = WSGIHandler()
    request = RequestFactory().get("/async-class/")
    assert handler.get_response(request).status_code == 200
    request = RequestFactory().get("/untrusted/")
    assert handler.get_response(request).content == b"True"
