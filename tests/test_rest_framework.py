"""Django REST framework, unmodified: on the loop if it is on the list, else in a thread."""

import asyncio
import base64
import contextlib
import json
import threading

import pytest
from asgi import Client
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connections
from django.test import modify_settings, override_settings
from django.urls import include, path
from hops import count_hops
from staying import on_the_loop, own, urlconf
from testapp.models import Author, Book

from django_aio import run

pytest.importorskip("rest_framework", reason="Django REST framework is not installed")

from rest_framework import (
    authentication,
    decorators,
    filters,
    generics,
    pagination,
    permissions,
    response,
    routers,
    serializers,
    throttling,
    views,
    viewsets,
)

LOOP, THREAD = "on the loop", "in a thread"
LISTED = {"AIO": {"COOPERATIVE": ["rest_framework", __name__]}}


def place():
    return LOOP if threading.current_thread() is threading.main_thread() else THREAD


class BookSerializer(serializers.ModelSerializer):
    class Meta:
        model = Book
        fields = ("id", "title", "author")


class AuthorSerializer(serializers.ModelSerializer):
    books = BookSerializer(many=True, read_only=True)
    place = serializers.SerializerMethodField()

    class Meta:
        model = Author
        fields = ("id", "name", "born", "books", "place")

    def get_place(self, author):
        return place()


class Pages(pagination.PageNumberPagination):
    page_size = 2


class Often(throttling.UserRateThrottle):
    rate = "1000/min"


class Authors(viewsets.ModelViewSet):
    queryset = Author.objects.order_by("pk")
    serializer_class = AuthorSerializer
    authentication_classes = (
        authentication.BasicAuthentication,
        authentication.SessionAuthentication,
    )
    permission_classes = (permissions.DjangoModelPermissionsOrAnonReadOnly,)
    throttle_classes = (Often,)
    pagination_class = Pages
    filter_backends = (filters.SearchFilter, filters.OrderingFilter)
    search_fields = ("name",)

    @decorators.action(detail=True)
    def titles(self, request, pk):
        return response.Response([book.title for book in self.get_object().books.all()])


class Cursored(generics.ListAPIView):
    class Pages(pagination.CursorPagination):
        ordering = "pk"
        page_size = 2

    queryset = Author.objects.all()
    serializer_class = AuthorSerializer
    pagination_class = Pages


class Where(views.APIView):
    def get(self, request):
        return response.Response({"place": place()})


@decorators.api_view(["GET"])
def where(request):
    return response.Response({"place": place()})


class Awaited(generics.ListCreateAPIView):
    """Coroutine functions in the place of methods: views of the framework are Django's."""

    serializer_class = AuthorSerializer

    async def get_queryset(self):
        await asyncio.sleep(0)
        return Author.objects.filter(name__in=[a.name async for a in Author.objects.all()])

    async def perform_create(self, serializer):
        await run(serializer.save, born=1775)

    async def check_permissions(self, request):
        await asyncio.sleep(0)
        if "refuse" in request.GET:
            self.permission_denied(request)


router = routers.DefaultRouter()
router.register("authors", Authors)
URLS = urlconf(
    path("api/", include(router.urls)),
    path("cursor/", Cursored.as_view()),
    path("class/", Where.as_view()),
    path("function/", where),
    path("awaited/", Awaited.as_view()),
)
BASIC = "Basic " + base64.b64encode(b"writer:secret").decode()
JSON = {"content-type": "application/json", "authorization": BASIC, "accept": "application/json"}


@pytest.fixture(autouse=True)
def _site(db, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    User.objects.create_superuser("writer", password="secret")
    for number in range(1, 4):
        author = Author.objects.create(name=f"author {number}")
        Book.objects.create(title=f"book {number}", author=author)
    connections.close_all()
    cache.clear()
    with (
        modify_settings(INSTALLED_APPS={"append": "rest_framework"}),
        override_settings(ROOT_URLCONF=URLS, STATIC_URL="/static/"),
    ):
        yield


async def call(method, url, data=None, **headers):
    """The status and what the API answers."""
    body = b"" if data is None else json.dumps(data).encode()
    length = {"content-length": str(len(body))}  # it reads no body without
    answer = await Client().request(method, url, body, {**JSON, **length, **headers})
    return answer.status, json.loads(answer.body) if answer.body else None


async def rounds():
    """A round through a view set: {what was asked: the status}; and the places it ran in."""
    asked = {}
    asked["list"], found = await call("GET", "/api/authors/")
    asked["search"], searched = await call("GET", "/api/authors/?search=author+2&ordering=-born")
    places = {author["place"] for author in found["results"]}
    assert (found["count"], searched["count"]) == (3, 1)
    assert found["results"][0]["books"][0]["title"] == "book 1"
    asked["create"], made = await call("POST", "/api/authors/", {"name": "new", "born": 1})
    one = f"/api/authors/{made['id']}/"
    asked["retrieve"], _ = await call("GET", one)
    asked["update"], updated = await call("PUT", one, {"name": "newer", "born": 2})
    asked["partial update"], patched = await call("PATCH", one, {"born": 3})
    assert (updated["name"], patched["born"]) == ("newer", 3)
    asked["action"], titles = await call("GET", "/api/authors/1/titles/")
    assert titles == ["book 1"]
    asked["delete"], _ = await call("DELETE", one)
    asked["gone"], _ = await call("GET", one)
    asked["invalid"], errors = await call("POST", "/api/authors/", {"name": ""})
    assert set(errors) == {"name"}
    asked["nobody"], _ = await call("POST", "/api/authors/", {"name": "x"}, authorization="")
    asked["options"], _ = await call("OPTIONS", "/api/authors/")
    asked["cursor"], _ = await call("GET", "/cursor/")
    asked["root"], _ = await call("GET", "/api/")
    return asked, places


STATUSES = {
    "list": 200,
    "search": 200,
    "create": 201,
    "retrieve": 200,
    "update": 200,
    "partial update": 200,
    "action": 200,
    "delete": 204,
    "gone": 404,
    "invalid": 400,
    "nobody": 401,
    "options": 200,
    "cursor": 200,
    "root": 200,
}


async def test_on_the_list_all_of_it_stays_on_the_loop():
    with override_settings(**LISTED):
        assert await rounds() == (STATUSES, {LOOP})
        with on_the_loop():
            assert await rounds() == (STATUSES, {LOOP})


@pytest.mark.parametrize("listed", [[], ["rest_framework"], [__name__]])
async def test_off_the_list_a_request_is_one_hop(listed):
    """Both the framework and the project have to be listed."""
    with override_settings(AIO={"COOPERATIVE": listed}):
        assert await rounds() == (STATUSES, {THREAD})
        with count_hops() as hops:
            await call("GET", "/api/authors/")
        assert len(own(hops.work)) == 1, "\n".join(own(hops.work))


@pytest.mark.parametrize("url", ["/class/", "/function/"])
async def test_views_of_either_kind(url):
    with override_settings(**LISTED):
        assert await call("GET", url) == (200, {"place": LOOP})
    assert await call("GET", url) == (200, {"place": THREAD})


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("url", ["/api/authors/", "/api/authors/1/", "/api/", "/awaited/"])
async def test_the_browsable_api(url, listed):
    """Its template tags, and the forms that it makes of serializers, look into the database."""
    html = {"accept": "text/html", "authorization": BASIC}
    with contextlib.ExitStack() as stack:
        if listed:
            stack.enter_context(override_settings(**LISTED))
        client = Client()
        assert (await client.get(url, **html)).status == 200
        if listed:
            stack.enter_context(on_the_loop())
        answer = await client.get(url, **html)
    assert answer.headers["content-type"].startswith("text/html")
    assert "<!DOCTYPE html>" in answer.text
    assert "<form" in answer.text


async def test_sessions_and_csrf():
    from django.test import Client as DjangoClient

    browser = DjangoClient()
    await run(browser.login, username="writer", password="secret")
    client = Client()
    client.cookies.update(browser.cookies)
    with override_settings(**LISTED):
        body = json.dumps({"name": "by session", "born": 1}).encode()
        kind = {"content-type": "application/json", "accept": "application/json"}
        kind["content-length"] = str(len(body))
        refused = await client.request("POST", "/api/authors/", body, kind)
        assert (refused.status, "CSRF" in refused.text) == (403, True)
        client.cookies["csrftoken"] = "t" * 32
        kind["x-csrftoken"] = "t" * 32
        with on_the_loop():
            made = await client.request("POST", "/api/authors/", body, kind)
    assert made.status == 201, made.text


async def test_throttling(monkeypatch):
    monkeypatch.setattr(Often, "rate", "2/min")
    cache.clear()
    with override_settings(**LISTED):
        statuses = [(await call("GET", "/api/authors/"))[0] for _ in range(3)]
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize("listed", [True, False])
async def test_coroutine_functions_in_the_place_of_methods(listed):
    with override_settings(**(LISTED if listed else {})):
        status, found = await call("GET", "/awaited/")
        assert (status, len(found)) == (200, 3)
        status, made = await call("POST", "/awaited/", {"name": "made", "born": 1})
        assert (status, made["born"]) == (201, 1775)
        assert (await call("GET", "/awaited/?refuse"))[0] == 403


async def test_requests_at_the_same_time():
    with override_settings(**LISTED):
        answers = await asyncio.gather(*(call("GET", "/api/authors/") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert settings.TEST_DB in ("sqlite", "postgresql")
