"""Middleware of both colours, of modules on and off the list; handlers that stay as before."""

import asyncio
import threading
from types import ModuleType

import pytest
from asgi import Client
from django.core.exceptions import PermissionDenied
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncClient, RequestFactory, override_settings
from django.test import Client as DjangoClient
from django.urls import path as url_path
from django.utils.decorators import async_only_middleware, sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from hops import count_hops
from testapp.models import Author

from django_aio import cooperative, in_bridge

from .notes import Deferred, Rendering, note, noting, path, seen, through


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


async def get(url, *middleware):
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


async def test_a_trusted_middleware_of_both_kinds_is_used_as_a_coroutine_too():
    """Its asynchronous form may do something else, as that of RemoteUserMiddleware does."""
    cooperative(both_middleware)
    try:
        assert (await get("/json/", both_middleware)).status == 200
    finally:
        del both_middleware._aio_cooperative
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


class Forgetful(MiddlewareMixin):
    async_capable = False

    def process_template_response(self, request, response):
        return None


@async_only_middleware
class ForgetfulCoroutine:
    def __init__(self, get_response):
        self.get_response = get_response

    async def __call__(self, request):
        return await self.get_response(request)

    async def process_template_response(self, request, response):
        return None


@pytest.mark.parametrize("middleware", [Forgetful, ForgetfulCoroutine])
async def test_a_middleware_that_forgets_the_response_is_named(middleware):
    async def view(request):
        return Deferred()

    name = f"{middleware.__name__}.process_template_response didn't return an HttpResponse"
    with pytest.raises(ValueError, match=name):
        await through([path(middleware)], view)


async def test_a_middleware_that_goes_to_a_thread_is_logged(caplog):
    async def view(request):
        return HttpResponse()

    caplog.set_level("DEBUG", "django.request")
    with override_settings(DEBUG=True):
        await through([path(sync_middleware)], view)
    name = path(sync_middleware)
    assert f"Asynchronous handler adapted for middleware {name}." in caplog.messages


# Handlers of errors.


def where_urls(view, **handlers):
    urlconf = ModuleType("urlconf_of_a_test")
    urlconf.urlpatterns = [url_path("", view)]
    vars(urlconf).update(handlers)
    return override_settings(ROOT_URLCONF=urlconf)


def anoting(name, answer=None):
    async def func(*args, **kwargs):
        return noting(name, answer)()

    return func


def no_access(request):
    raise PermissionDenied


async def ano_access(request):
    raise PermissionDenied


ERROR = HttpResponse("error", status=403)


@pytest.mark.parametrize("view", [no_access, ano_access, cooperative(lambda r: no_access(r))])
@pytest.mark.parametrize(
    ("handler", "place"),
    [
        (noting("handler", ERROR), "thread"),
        (cooperative(noting("handler", ERROR)), "loop"),
        (anoting("handler", ERROR), "loop"),
    ],
)
async def test_error_handlers(view, handler, place):
    with where_urls(view, handler403=handler):
        assert (await Client().get("/")).text == "error"
    assert seen == [f"handler {place}"]


@pytest.mark.parametrize("handler", [noting("handler", ERROR), anoting("handler", ERROR)])
def test_error_handlers_under_wsgi(handler):
    with where_urls(no_access, handler403=handler):
        assert DjangoClient().get("/").content == b"error"
    assert seen[0].startswith("handler")


async def test_handler500():
    with where_urls(noting("view", ValueError()), handler500=noting("handler", ERROR)):
        assert (await Client().get("/")).text == "error"
    assert seen == ["view thread", "handler thread"]


async def test_a_template_response_of_an_error_handler_is_rendered_with_it():
    answer = TemplateResponse(None, Rendering(), status=403)
    with where_urls(no_access, handler403=noting("handler", answer)):
        assert (await Client().get("/")).text == "rendered"
    assert seen == ["handler thread", "rendering thread"]


@async_only_middleware
def failing_middleware(get_response):
    async def middleware(request):
        raise PermissionDenied

    return middleware


async def test_an_error_of_a_coroutine_middleware_is_answered_on_the_loop():
    with (
        where_urls(anoting("view"), handler403=anoting("handler", ERROR)),
        count_hops() as hops,
    ):
        response = await get("/", both_middleware, failing_middleware)
    assert response.text == "error"
    assert seen == ["both as coroutine loop", "handler loop"]
    assert not hops


csrf_failure = noting("csrf", HttpResponse("no token", status=403))


@pytest.mark.parametrize(("names", "place"), [([], "thread"), ([noting.__module__], "loop")])
async def test_the_csrf_failure_view(names, place):
    view = f"{__name__}.csrf_failure"
    with override_settings(CSRF_FAILURE_VIEW=view, AIO={"COOPERATIVE": names}):
        response = await Client().post("/form/", {})
    assert response.text == "no token"
    assert seen == [f"csrf {place}"]


# Middleware in threads.


def thread_middleware(get_response):
    def middleware(request):
        seen.append(threading.get_ident())
        return get_response(request)

    return middleware


def thread_middleware_too(get_response):
    return thread_middleware(get_response)


async def test_a_row_of_sync_middleware_shares_one_hop():
    with where_urls(anoting("view", HttpResponse())), count_hops() as hops:
        assert (await get("/", thread_middleware, thread_middleware_too)).status == 200
    outer, inner, view = seen
    assert outer == inner != threading.get_ident()
    assert view == "view loop"
    assert len(hops.work) == 1


async def test_errors_pass_through_a_row_of_sync_middleware():
    with where_urls(ano_access, handler403=noting("handler", ERROR)):
        response = await get("/", thread_middleware, thread_middleware_too)
    assert response.text == "error"
    assert seen[2:] == ["handler thread"]


async def test_an_error_of_the_inner_middleware_of_a_row():
    with where_urls(anoting("view"), handler403=noting("handler", ERROR)):
        response = await get("/", thread_middleware, denying_middleware)
    assert response.text == "error"
    assert seen[1:] == ["handler thread"]


def denying_middleware(get_response):
    return no_access


async def test_a_sync_view_below_sync_middleware_has_the_same_thread():
    def view(request):
        return HttpResponse(f"{threading.get_ident()}")

    with where_urls(view):
        response = await get("/", thread_middleware)
    assert response.text == f"{seen[0]}"


# ATOMIC_REQUESTS and coroutine views under WSGI.


@pytest.fixture
def atomic(db, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


@pytest.mark.parametrize("fail", [False, True])
def test_a_coroutine_view_is_in_the_transaction_of_its_thread(atomic, fail):
    async def view(request):
        seen.append(connection.in_atomic_block)
        await Author.objects.acreate(name="Austen")
        if fail:
            raise ValueError("the view failed")
        return HttpResponse()

    with where_urls(view):
        response = DjangoClient(raise_request_exception=False).get("/")
    assert response.status_code == (500 if fail else 200)
    assert seen == [True]
    assert Author.objects.filter(name="Austen").exists() is not fail


def test_a_coroutine_view_may_decline_the_transaction(atomic):
    @transaction.non_atomic_requests
    async def view(request):
        seen.append(connection.in_atomic_block)
        return HttpResponse()

    with where_urls(view):
        assert DjangoClient().get("/").status_code == 200
    assert seen == [False]


def test_other_errors_of_the_wrapping_are_not_hidden(monkeypatch):
    def refuse(using):
        raise RuntimeError("refused")

    monkeypatch.setattr(transaction, "atomic", refuse)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    with pytest.raises(RuntimeError, match="refused"):
        WSGIHandler().make_view_atomic(noting("view"))
