"""Redirects from what is missing, on the loop."""

import threading

import pytest
from asgi import Client
from django.conf import settings
from django.contrib.redirects.middleware import RedirectFallbackMiddleware
from django.contrib.redirects.models import Redirect
from django.contrib.sites.models import Site
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.test import override_settings
from django.urls import path
from hops import count_hops
from staying import on_the_loop, own, urlconf

from django_aio import cooperative


async def missing(request):
    raise Http404


@cooperative
def missing_sync(request):
    raise Http404


async def there(request):
    return HttpResponse("there")


URLS = urlconf(path("coroutine/", missing), path("function/", missing_sync), path("there/", there))
FALLBACK = "django.contrib.redirects.middleware.RedirectFallbackMiddleware"
FALLEN_BACK = ["/coroutine/", "/function/", "/nowhere/", "/nowhere/?page=2"]
threads = []


class Temporary(RedirectFallbackMiddleware):
    """A subclass of a module that is not on the list."""

    response_redirect_class = HttpResponseRedirect

    def process_response(self, request, response):
        threads.append(threading.current_thread())
        return super().process_response(request, response)


@pytest.fixture
def client(persistent):
    for url in (*FALLEN_BACK, "/there/", "/slash/"):
        Redirect.objects.create(site_id=settings.SITE_ID, old_path=url, new_path="/found/")
    Redirect.objects.create(site_id=settings.SITE_ID, old_path="/gone/", new_path="")
    Site.objects.clear_cache()
    with override_settings(ROOT_URLCONF=URLS, MIDDLEWARE=[*settings.MIDDLEWARE, FALLBACK]):
        yield Client()
    Site.objects.clear_cache()


@pytest.mark.parametrize("url", FALLEN_BACK)
async def test_from_a_page_that_is_missing(url, client):
    await client.get(url)
    with on_the_loop():
        response = await client.get(url)
    assert (response.status, response.headers["location"]) == (301, "/found/")


@pytest.mark.parametrize(
    ("url", "status"), [("/there/", 200), ("/gone/", 410), ("/none/", 404), ("/slash", 301)]
)
async def test_otherwise(url, status, client):
    await client.get(url)
    with on_the_loop():
        assert (await client.get(url)).status == status


async def test_a_subclass_that_is_not_on_the_list(client):
    """Its hook runs in a thread, where it sees the same database."""
    threads.clear()
    middleware = [*settings.MIDDLEWARE, f"{__name__}.Temporary"]
    with override_settings(MIDDLEWARE=middleware):
        temporary = Client()
        await temporary.get("/coroutine/")
        with count_hops() as hops:
            response = await temporary.get("/coroutine/")
    assert response.status == 302
    assert len(own(hops.work)) == 1
    assert threading.main_thread() not in threads
