"""The current site, on the loop."""

import pytest
from asgi import Client
from django.conf import settings
from django.contrib.sites.models import Site
from django.contrib.sites.shortcuts import get_current_site
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from staying import on_the_loop, urlconf

from django_aio import cooperative, run


async def current(request):
    return HttpResponse(request.site.domain)


async def found(request):
    return HttpResponse((await run(get_current_site, request)).domain)


@cooperative
def current_sync(request):
    return HttpResponse(request.site.domain)


@cooperative
def found_sync(request):
    return HttpResponse(get_current_site(request).domain)


URLS = urlconf(
    path("current/", current),
    path("found/", found),
    path("current-sync/", current_sync),
    path("found-sync/", found_sync),
)
PAGES = ["/current/", "/found/", "/current-sync/", "/found-sync/"]
MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.sites.middleware.CurrentSiteMiddleware"]


@pytest.fixture
def client(persistent):
    Site.objects.clear_cache()
    with override_settings(ROOT_URLCONF=URLS, MIDDLEWARE=MIDDLEWARE):
        yield Client()
    Site.objects.clear_cache()


@pytest.mark.parametrize("page", PAGES)
async def test_by_the_setting(page, client):
    await client.get(page)
    Site.objects.clear_cache()
    with on_the_loop():
        assert (await client.get(page)).text == "example.com"
        assert (await client.get(page)).text == "example.com"  # from the cache


@pytest.mark.parametrize("page", PAGES)
async def test_by_the_host(page, client):
    await Site.objects.acreate(domain="testserver", name="Test")
    with override_settings(SITE_ID=None):
        await client.get(page)
        Site.objects.clear_cache()
        with on_the_loop():
            assert (await client.get(page)).text == "testserver"


async def test_a_site_that_is_saved_leaves_the_cache(client):
    """Django's receiver of `pre_save` queries: on the loop, it needs no thread."""
    await client.get("/current/")
    site = await Site.objects.aget(pk=settings.SITE_ID)
    site.domain = "example.org"
    with on_the_loop():
        await site.asave()
        assert (await client.get("/current/")).text == "example.org"
        await site.adelete()
    with pytest.raises(Site.DoesNotExist):
        await run(Site.objects.get_current)
