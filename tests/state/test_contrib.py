"""Messages, content types, sites, flat pages, redirects."""

import pytest
from django.conf import settings
from django.contrib import messages
from django.contrib.contenttypes.models import ContentType
from django.contrib.flatpages.models import FlatPage
from django.contrib.flatpages.views import flatpage
from django.contrib.redirects.models import Redirect
from django.contrib.sites.models import Site
from django.contrib.sites.shortcuts import get_current_site
from django.http import Http404, HttpRequest, HttpResponse
from testapp.models import Author, Book, Tag

from django_aio import cooperative, run

from .tables import (
    assert_same,
    documented,
    hops_of,
    hops_of_page,
    stored_author,
)

# Messages, content types, sites, flat pages, redirects.


def no_content_types():
    ContentType.objects.clear_cache()


def no_sites():
    Site.objects.clear_cache()


def tagged():
    author = stored_author()
    Tag.objects.create(name="English", target=author)
    ContentType.objects.clear_cache()
    return author


def fresh_tag():
    tagged()
    tag = Tag.objects.latest("pk")
    ContentType.objects.clear_cache()
    return tag


def tag_queryset():
    tagged()
    return Tag.objects.prefetch_related("target")


def of(make, call, acall):
    """Calls with what `make()` returns: made before, and not counted."""
    made = []

    def prepare():
        made.append(make())

    async def awaited():
        return await acall(made[-1])

    return prepare, (lambda: call(made[-1])), awaited if acall else None


async def aadd_tag(author):
    await (await run(getattr, author, "tags")).aadd(Tag(name="new"), bulk=False)


async def acount_tags(author):
    return await (await run(getattr, author, "tags")).acount()


async def alist(queryset):
    return [each async for each in queryset]


CONTRIB = {
    "`ContentType.objects.get_for_model()`": (
        no_content_types,
        lambda: ContentType.objects.get_for_model(Author),
        None,
    ),
    "`ContentType.objects.get_for_models()`": (
        no_content_types,
        lambda: ContentType.objects.get_for_models(Author, Book),
        None,
    ),
    "`GenericForeignKey`": of(fresh_tag, lambda tag: tag.target, None),
    "`GenericForeignKey`, prefetched": of(tag_queryset, list, alist),
    "`GenericRelation`, `add()`, `aadd()`": of(
        tagged, lambda author: author.tags.add(Tag(name="new"), bulk=False), aadd_tag
    ),
    "`GenericRelation`, `count()`, `acount()`": of(
        tagged, lambda author: author.tags.count(), acount_tags
    ),
    "`Site.objects.get_current()`": (no_sites, lambda: Site.objects.get_current(), None),
    "`get_current_site()`": (no_sites, lambda: get_current_site(HttpRequest()), None),
}


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_contrib(colour):
    expected = {name: row[colour] for name, row in documented("hops-contrib").items()}
    assert list(expected) == list(CONTRIB)
    found = {
        name: calls[colour] and await hops_of(prepare, calls[colour])
        for name, (prepare, *calls) in CONTRIB.items()
    }
    assert_same(expected, found)


@cooperative
def show_messages(request):
    shown = [message.message for message in messages.get_messages(request)]
    messages.info(request, "stored")
    return HttpResponse(", ".join(shown))


async def ashow_messages(request):
    # Messages have no awaitable form: a session that is stored in the database is read here.
    return await run(show_messages, request)


@cooperative
def show_site(request):
    return HttpResponse(request.site.domain)


async def ashow_site(request):
    return show_site(request)


@cooperative
def missing(request):
    raise Http404


async def amissing(request):
    raise Http404


def flat(request):
    return flatpage(request, "/missing/")


def stored_in(storage):
    path = f"django.contrib.messages.storage.{storage}"
    return (show_messages, ashow_messages), {"MESSAGE_STORAGE": path}


def middleware(name):
    return {"MIDDLEWARE": [*settings.MIDDLEWARE, f"django.contrib.{name}"]}


CONTRIB_PAGES = {
    "messages in cookies": stored_in("cookie.CookieStorage"),
    "messages in the session": stored_in("session.SessionStorage"),
    "messages in either, as is the default": stored_in("fallback.FallbackStorage"),
    "`CurrentSiteMiddleware`": (
        (show_site, ashow_site),
        middleware("sites.middleware.CurrentSiteMiddleware"),
    ),
    "`FlatpageFallbackMiddleware`, a flat page": (
        (missing, amissing),
        {"url": "/missing/", **middleware("flatpages.middleware.FlatpageFallbackMiddleware")},
    ),
    "`flatpage()`, the view": ((cooperative(flat), None), {}),
    "`RedirectFallbackMiddleware`, a redirect": (
        (missing, amissing),
        {
            "url": "/missing/",
            "status": 301,
            **middleware("redirects.middleware.RedirectFallbackMiddleware"),
        },
    ),
}


def flat_page_and_redirect():
    page = FlatPage.objects.create(url="/missing/", title="Flat", content="<p>Flat</p>")
    page.sites.set([settings.SITE_ID])
    Redirect.objects.create(site_id=settings.SITE_ID, old_path="/missing/", new_path="/found/")


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_contrib_pages(colour, state):
    expected = {name: row[colour] for name, row in documented("hops-contrib-pages").items()}
    assert list(expected) == list(CONTRIB_PAGES)
    await run(flat_page_and_redirect)
    found = {
        name: views[colour] and await hops_of_page(state, views[colour], **options)
        for name, (views, options) in CONTRIB_PAGES.items()
    }
    assert_same(expected, found)
