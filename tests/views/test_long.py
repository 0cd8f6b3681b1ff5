"""What of Django's own reads files or computes for long goes to a thread; the rest stays."""

import threading
from gzip import decompress as gunzip

import pytest
from django.contrib import admin
from django.contrib.admindocs import views as admindocs
from django.contrib.auth.models import User
from django.contrib.sitemaps import Sitemap
from django.contrib.sitemaps.views import index, sitemap
from django.http import HttpResponse
from django.test import AsyncClient, Client, modify_settings, override_settings
from django.urls import include, path
from django.utils import text
from django.views import debug, i18n
from staying import urlconf

from django_aio.middleware import LARGE


def place():
    return "loop" if threading.current_thread() is threading.main_thread() else "thread"


class Pages(Sitemap):
    def items(self):
        places.append(place())
        return ["a"]

    def location(self, item):
        return f"/{item}/"


MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
places = []


@pytest.fixture(autouse=True)
def _nowhere():
    places.clear()


def noting(monkeypatch, owner, name):
    """Note where a function of Django's is called."""
    upstream = getattr(owner, name)

    def call(*args, **kwargs):
        places.append(place())
        return upstream(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def large(request):
    return HttpResponse(b"x" * (LARGE + 1))


def small(request):
    return HttpResponse(b"x" * 1000)


def failing(request):
    raise ValueError("wrong")


@pytest.fixture
def client():
    urls = urlconf(
        path("catalog/", i18n.JavaScriptCatalog.as_view()),
        path("json/", i18n.JSONCatalog.as_view()),
        path("sitemaps.xml", index, {"sitemaps": {"pages": Pages}, "sitemap_url_name": "sitemap"}),
        path("<section>.xml", sitemap, {"sitemaps": {"pages": Pages}}, "sitemap"),
        path("admin/", admin.site.urls),
        path("doc/", include("django.contrib.admindocs.urls")),
        path("large/", large),
        path("small/", small),
        path("failing/", failing),
    )
    middleware = ["django.middleware.gzip.GZipMiddleware"]
    listed = {"COOPERATIVE": [__name__]}
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=middleware, AIO=listed):
        yield AsyncClient(raise_request_exception=False)


@pytest.mark.parametrize("url", ["/catalog/", "/json/"])
async def test_catalogs(client, monkeypatch, url):
    noting(monkeypatch, i18n, "DjangoTranslation")
    response = await client.get(url)
    assert response.status_code == 200
    assert b"catalog" in response.content
    assert places == ["thread"]


@pytest.mark.usefixtures("db")
@modify_settings(INSTALLED_APPS={"append": "django.contrib.sitemaps"})
async def test_sitemaps(client):
    response = await client.get("/pages.xml")
    assert b"/a/</loc>" in response.content
    assert b"/pages.xml" in (await client.get("/sitemaps.xml")).content
    assert set(places) == {"thread"}


@pytest.mark.usefixtures("db")
@modify_settings(
    INSTALLED_APPS={"append": "django.contrib.admindocs"},
    MIDDLEWARE={"append": MIDDLEWARE},
)
async def test_admindocs(client, monkeypatch):
    noting(monkeypatch, admindocs.utils, "parse_docstring")
    await client.aforce_login(await User.objects.acreate_superuser("admin"))
    response = await client.get("/doc/tags/")
    assert b"cycle" in response.content
    assert set(places) == {"thread"}


@override_settings(DEBUG=True)
async def test_the_page_of_an_error(client, monkeypatch):
    noting(monkeypatch, debug, "get_exception_reporter_class")
    response = await client.get("/failing/")
    assert response.status_code == 500
    assert b"ValueError" in response.content
    assert places == ["thread"]


@pytest.mark.parametrize(("url", "where"), [("/large/", "thread"), ("/small/", "loop")])
async def test_compressed_pages(client, monkeypatch, url, where):
    noting(monkeypatch, text, "gzip_compress")
    response = await client.get(url, headers={"accept-encoding": "gzip"})
    assert gunzip(response.content).strip(b"x") == b""
    assert places == [where]


def test_outside_the_bridge_all_stay_where_they_are_called(client, monkeypatch):
    noting(monkeypatch, i18n, "DjangoTranslation")
    noting(monkeypatch, text, "gzip_compress")
    for url in ("/catalog/", "/large/", "/small/"):
        assert Client().get(url, headers={"accept-encoding": "gzip"}).status_code == 200
    assert set(places) == {"loop"}
