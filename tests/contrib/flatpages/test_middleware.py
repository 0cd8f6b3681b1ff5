"""Flat pages, by their middleware and by their view, on the loop."""

import pytest
from asgi import Client
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.flatpages.models import FlatPage
from django.contrib.sites.models import Site
from django.http import Http404, HttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import include, path
from staying import on_the_loop, urlconf

from django_aio import cooperative, run


async def missing(request):
    raise Http404


@cooperative
def missing_sync(request):
    return HttpResponse("mine", status=404)


async def there(request):
    return HttpResponse("there")


URLS = urlconf(
    path("coroutine/", missing),
    path("function/", missing_sync),
    path("there/", there),
    path("pages/", include("django.contrib.flatpages.urls")),
)
MIDDLEWARE = [
    *settings.MIDDLEWARE,
    "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware",
]
FALLEN_BACK = ["/coroutine/", "/function/", "/nowhere/"]


def write_page(url, **fields):
    page = FlatPage.objects.create(url=url, title="Title", content=f"<p>{url}</p>", **fields)
    page.sites.set([settings.SITE_ID])
    return page


@pytest.fixture
def client(persistent):
    for url in (*FALLEN_BACK, "/there/", "/flat/"):
        write_page(url)
    write_page("/members/", registration_required=True)
    Site.objects.clear_cache()
    with override_settings(ROOT_URLCONF=URLS, MIDDLEWARE=MIDDLEWARE):
        yield Client()
    Site.objects.clear_cache()


@pytest.mark.parametrize("url", FALLEN_BACK)
async def test_instead_of_a_page_that_is_missing(url, client):
    await client.get(url)
    with on_the_loop():
        response = await client.get(url)
    assert response.status == 200
    assert f"<p>{url}</p>" in response.text
    assert "csrfmiddlewaretoken" in response.text


async def test_not_instead_of_one_that_is_there(client):
    with on_the_loop():
        assert (await client.get("/there/")).text == "there"


async def test_where_there_is_none(client):
    await client.get("/none/")
    with on_the_loop():
        assert (await client.get("/none/")).status == 404
    await FlatPage.objects.filter(url="/function/").adelete()
    with on_the_loop():
        response = await client.get("/function/")
    assert (response.status, response.text) == (404, "mine")


async def test_the_view(client):
    await client.get("/pages/flat/")
    with on_the_loop():
        response = await client.get("/pages/flat/")
        slash = await client.get("/pages/flat")
        missing = await client.get("/pages/none/")
    assert "<p>/flat/</p>" in response.text
    assert (slash.status, slash.headers["location"]) == (301, "/pages/flat/")
    assert missing.status == 404


async def test_for_those_who_are_logged_in(client):
    """Whoever asks: the lazy user is read from the database, on the loop."""
    anonymous = await client.get("/members/")
    assert anonymous.headers["location"] == "/accounts/login/?next=/members/"
    user = await User.objects.acreate_user("reader")
    browser = DjangoClient()
    await run(browser.force_login, user)
    client.cookies.update(browser.cookies)
    await client.get("/members/")
    with on_the_loop():
        response = await client.get("/members/")
    assert "<p>/members/</p>" in response.text
