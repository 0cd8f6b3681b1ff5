"""The cache middleware, `cache_page()` and its kin, and `{% cache %}`, under ASGI."""

import asyncio
import itertools
import secrets
import threading

import pytest
from asgi import Client
from asgiref.sync import iscoroutinefunction
from django.core.cache import caches
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.middleware.cache import CacheMiddleware
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import (
    decorator_from_middleware,
    decorator_from_middleware_with_args,
    method_decorator,
)
from django.utils.deprecation import MiddlewareMixin
from django.views import View
from django.views.decorators.cache import cache_control, cache_page, never_cache
from django.views.decorators.vary import vary_on_headers
from hops import count_hops
from servers import answers, memcached_cache, redis_cache
from staying import on_the_loop, own, urlconf
from testapp.models import Author

from django_aio import cooperative

TABLE = "cache_of_pages"
DATABASE = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": TABLE}
LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "pages"}
AROUND = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]
counter = itertools.count(1)


# Each view answers with another number every time it runs.


@cooperative
def page(request):
    return HttpResponse(f"page {next(counter)}")


async def apage(request):
    await asyncio.sleep(0)
    return HttpResponse(f"page {next(counter)}")


def from_template():
    return engines["django"].from_string("page {{ number }}")


@cooperative
def deferred(request):
    return TemplateResponse(request, from_template(), {"number": next(counter)})


async def adeferred(request):
    return TemplateResponse(request, from_template(), {"number": next(counter)})


async def of_database(request):
    """A response that queries while it is rendered."""
    template = engines["django"].from_string("page {% for a in all %}{{ a }}{% endfor %}")
    await Author.objects.acreate(name=f"author {next(counter)}")
    return TemplateResponse(request, template, {"all": Author.objects.all()})


class Page(View):
    async def get(self, request):
        return await apage(request)


@method_decorator(cache_page(60), name="dispatch")
class Dispatched(Page):
    pass


class Handled(View):
    @method_decorator(cache_page(60))
    async def get(self, request):
        return await apage(request)


class Redirecting(Page):
    def dispatch(self, request):
        return HttpResponseRedirect(f"/{next(counter)}/")


@method_decorator(cache_page(60), name="dispatch")
class Redirected(Redirecting):
    pass


VIEWS = {
    "sync": page,
    "coroutine": apage,
    "sync, deferred": deferred,
    "coroutine, deferred": adeferred,
    "querying": of_database,
}
DECORATED = {name: cache_page(60)(view) for name, view in VIEWS.items()} | {
    "class": cache_page(60)(Page.as_view()),
    "dispatch": Dispatched.as_view(),
    "handler": Handled.as_view(),
}
BACKENDS = {"locmem": LOCMEM, "database": DATABASE, "Redis": redis_cache(), "memcached": None}


@pytest.fixture(params=BACKENDS)
def backend(request, db):
    """A cache that is empty."""
    entry = BACKENDS[request.param]
    if request.param in ("Redis", "memcached"):
        if not answers(request.param):
            pytest.skip(f"{request.param} does not answer")
        entry = entry or {**memcached_cache(), "KEY_PREFIX": secrets.token_hex(8)}
    with override_settings(CACHES={"default": entry}, MIDDLEWARE=[]):
        if entry is DATABASE:
            call_command("createcachetable", verbosity=0)
        yield request.param
        if request.param != "memcached":  # it would empty the server, whoever else uses it
            caches["default"].clear()
        if entry is DATABASE:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP TABLE {TABLE}")


@pytest.fixture
def locmem():
    with override_settings(CACHES={"default": LOCMEM}, MIDDLEWARE=[]):
        yield caches["default"]
        caches["default"].clear()


def serve(view):
    return override_settings(ROOT_URLCONF=urlconf(path("", view), path("<int:number>/", view)))


async def cached_twice(client):
    """The page is made once, kept, then found; all of it on the loop."""
    await client.get("/?warm")
    with on_the_loop():
        first = await client.get("/")
        second = await client.get("/")
        other = await client.get("/?other")
    assert first.status == second.status == 200
    assert first.text.startswith("page")
    assert first.text == second.text
    assert first.text != other.text
    assert "max-age" in first.headers["cache-control"]
    assert second.headers["expires"] == first.headers["expires"]


@pytest.mark.parametrize("name", DECORATED)
async def test_cache_page(backend, name):
    with serve(DECORATED[name]):
        await cached_twice(Client())


@pytest.mark.parametrize("name", VIEWS)
async def test_the_middleware(backend, name):
    with serve(VIEWS[name]), override_settings(MIDDLEWARE=AROUND):
        await cached_twice(Client())


async def test_the_middleware_in_one(locmem):
    middleware = ["django.middleware.cache.CacheMiddleware"]
    with serve(apage), override_settings(MIDDLEWARE=middleware):
        await cached_twice(Client())


async def test_a_redirect_of_dispatch_is_an_answer(locmem):
    with serve(Redirected.as_view()):
        first = await Client().get("/")
        assert first.status == 302
        assert (await Client().get("/")).headers["location"] != first.headers["location"]


async def test_head_after_get(locmem):
    with serve(DECORATED["coroutine"]):
        body = (await Client().get("/")).body
        response = await Client().request("HEAD", "/")
        assert (response.status, response.body) == (200, body)  # the server leaves it out


async def test_other_methods_are_not_cached(locmem):
    with serve(DECORATED["coroutine"]):
        first, second = [await Client().post("/", {}) for _ in range(2)]
        assert first.text != second.text


@pytest.mark.parametrize("view", [page, apage])
async def test_vary(locmem, view):
    with serve(cache_page(60)(vary_on_headers("X-Kind")(view))):
        a, b, again = [
            await Client().request("GET", "/", headers={"x-kind": kind}) for kind in "aba"
        ]
    assert a.text == again.text != b.text
    assert "X-Kind" in a.headers["vary"]


@pytest.mark.parametrize("view", [page, apage])
async def test_cache_control_and_never_cache(locmem, view):
    with serve(cache_page(60)(cache_control(private=True)(view))), on_the_loop():
        first, second = [await Client().get("/") for _ in range(2)]
    assert first.text != second.text
    assert first.headers["cache-control"] == "private"
    with serve(cache_page(60)(never_cache(view))), on_the_loop():
        first, second = [await Client().get("/") for _ in range(2)]
    assert first.text != second.text
    assert "no-store" in first.headers["cache-control"]


async def stream(request):
    async def parts():
        yield f"page {next(counter)}"

    return StreamingHttpResponse(parts())


async def test_a_stream_is_not_cached(locmem):
    for decorated, middleware in ((cache_page(60)(stream), []), (stream, AROUND)):
        with serve(decorated), override_settings(MIDDLEWARE=middleware), on_the_loop():
            first, second = [await Client().get("/") for _ in range(2)]
        assert first.text.startswith("page")
        assert first.text != second.text


async def test_post_render_callbacks_run_once_for_a_cached_page(locmem):
    """Of the response that was rendered, not of those that come from the cache."""
    called = []

    async def view(request):
        response = await adeferred(request)
        response.add_post_render_callback(lambda response: called.append(response.content))
        return response

    with serve(cache_page(60)(view)):
        first, second = [await Client().get("/") for _ in range(2)]
    assert first.body == second.body
    assert called == [first.body]


async def test_errors_are_not_cached_and_go_on():
    async def view(request):
        raise ZeroDivisionError

    decorated = cache_page(60)(view)
    with pytest.raises(ZeroDivisionError):
        await decorated(AsyncRequestFactory().get("/"))


async def test_a_decorated_view_keeps_its_attributes():
    async def view(request):
        """Its docstring."""

    view.csrf_exempt = True
    decorated = cache_page(60)(view)
    assert iscoroutinefunction(decorated)
    assert (decorated.__name__, decorated.__doc__) == ("view", "Its docstring.")
    assert decorated.csrf_exempt
    assert decorated.__wrapped__ is view


async def test_cancelling_reaches_the_view(locmem):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def view(request):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(cache_page(60)(view)(AsyncRequestFactory().get("/")))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


# Other middleware as a decorator.


seen: list[str] = []


class Noting(MiddlewareMixin):
    """Not on the list."""

    def note(self, hook):
        on_loop = threading.current_thread() is threading.main_thread()
        seen.append(f"{hook} {'loop' if on_loop else 'thread'}")

    def process_request(self, request):
        self.note("request")

    def process_view(self, request, view, args, kwargs):
        self.note("view")

    def process_exception(self, request, exception):
        self.note("exception")
        return HttpResponse("an exception")

    def process_response(self, request, response):
        self.note("response")
        return response


@cooperative
class TrustedNoting(Noting):
    pass


@pytest.mark.parametrize(("middleware", "place"), [(Noting, "thread"), (TrustedNoting, "loop")])
async def test_hooks_run_where_the_policy_says(middleware, place):
    seen.clear()

    async def view(request):
        on_loop = threading.current_thread() is threading.main_thread()
        seen.append(f"called {'loop' if on_loop else 'thread'}")
        if "fail" in request.GET:
            raise ZeroDivisionError
        return HttpResponse("fine")

    decorated = decorator_from_middleware(middleware)(view)
    with count_hops() as hops:
        response = await decorated(AsyncRequestFactory().get("/"))
    assert response.content == b"fine"
    assert seen == [f"request {place}", f"view {place}", "called loop", f"response {place}"]
    assert len(own(hops.work)) <= 2
    seen.clear()
    response = await decorated(AsyncRequestFactory().get("/?fail"))
    assert response.content == b"an exception"
    assert seen == [f"request {place}", f"view {place}", "called loop", f"exception {place}"]


def test_synchronous_views_are_djangos():
    with count_hops() as hops:
        seen.clear()
        response = decorator_from_middleware(Noting)(page)(RequestFactory().get("/"))
    assert response.status_code == 200
    assert seen == ["request loop", "view loop", "response loop"]
    assert hops == []


def test_coroutine_views_under_wsgi(locmem):
    """On the loop of asgiref, which lasts for the request."""
    with serve(DECORATED["coroutine"]):
        first, second = [b"".join(wsgi_get()) for _ in range(2)]
    assert first == second


def wsgi_get():
    environ = RequestFactory()._base_environ(PATH_INFO="/")
    return get_wsgi_application()(environ, lambda *args: None)


async def test_arguments_reach_the_middleware(locmem):
    decorator = decorator_from_middleware_with_args(CacheMiddleware)
    decorated = decorator(page_timeout=7, key_prefix="prefix")(apage)
    response = await decorated(AsyncRequestFactory().get("/"))
    assert response["cache-control"] == "max-age=7"


# The template tag.


@cooperative
def fragment(request):
    source = "{% load cache %}page {% cache 60 part request.GET.n %}{{ number }}{% endcache %}"
    template = engines["django"].from_string(source)
    return HttpResponse(template.render({"number": next(counter)}, request))


async def afragment(request):
    source = "{% load cache %}page {% cache 60 part request.GET.n %}{{ number }}{% endcache %}"
    template = engines["django"].from_string(source)
    return TemplateResponse(request, template, {"number": next(counter)})


@pytest.mark.parametrize("view", [fragment, afragment])
async def test_the_tag(backend, view):
    with serve(view):
        client = Client()
        await client.get("/?n=warm")
        with on_the_loop():
            first, second, other = [await client.get(f"/?n={n}") for n in "112"]
    assert first.status == 200
    assert first.text == second.text != other.text
