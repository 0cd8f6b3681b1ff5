"""A tree of pages: served with routes and restrictions, edited in the admin, beside coroutines."""

import asyncio

import site_of

ARTICLE = "{% load wagtailcore_tags %}{{ page.title }}: {{ page.body|richtext }} in " + (
    "{% for up in page.get_ancestors %}{{ up.title }}/{% endfor %} by {{ request.user.username }}"
    "{% for child in page.get_children.live %} [{% pageurl child %}]{% endfor %}"
)
OPTIONS = {
    "context_processors": site_of.TEMPLATES[0]["OPTIONS"]["context_processors"],
    "loaders": [
        ("django.template.loaders.locmem.Loader", {"shop/article.html": ARTICLE}),
        "django.template.loaders.app_directories.Loader",
    ],
}
# The model below has no migration, and what has none must not refer to what has.
OF_WAGTAIL = ("core", "admin", "users", "images", "docs", "embeds", "search", "redirects")

site_of.configure(
    INSTALLED_APPS=[
        *("wagtail.contrib.redirects", "wagtail.contrib.routable_page", "wagtail.embeds"),
        *("wagtail.sites", "wagtail.users", "wagtail.snippets", "wagtail.documents"),
        *("wagtail.images", "wagtail.search", "wagtail.admin", "wagtail"),
        *("modelcluster", "taggit", "django_filters", "django.contrib.staticfiles"),
    ],
    MIDDLEWARE=[*site_of.MIDDLEWARE, "wagtail.contrib.redirects.middleware.RedirectMiddleware"],
    MIGRATION_MODULES=dict.fromkeys(
        ["auth", "contenttypes", "taggit", *(f"wagtail{name}" for name in OF_WAGTAIL)]
    ),
    TEMPLATES=[{**site_of.TEMPLATES[0], "APP_DIRS": False, "OPTIONS": OPTIONS}],
    WAGTAIL_SITE_NAME="Shop",
    WAGTAILADMIN_BASE_URL="http://testserver",
    WAGTAILADMIN_COMMENTS_ENABLED=False,
    WAGTAILSEARCH_BACKENDS={"default": {"BACKEND": "wagtail.search.backends.database.fallback"}},
)

from asgiref.sync import sync_to_async  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.shortcuts import aget_object_or_404  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import include, path  # noqa: E402
from wagtail import urls as wagtail_urls  # noqa: E402
from wagtail.admin import urls as wagtailadmin_urls  # noqa: E402
from wagtail.admin.panels import FieldPanel  # noqa: E402
from wagtail.contrib.redirects.models import Redirect  # noqa: E402
from wagtail.contrib.routable_page.models import RoutablePageMixin  # noqa: E402
from wagtail.contrib.routable_page.models import path as route  # noqa: E402
from wagtail.fields import RichTextField  # noqa: E402
from wagtail.models import Locale, Page, PageLogEntry, Revision, Site  # noqa: E402
from wagtail.models import PageViewRestriction as Restriction  # noqa: E402


class Article(RoutablePageMixin, Page):
    body = RichTextField(blank=True)
    content_panels = (*Page.content_panels, FieldPanel("body"))
    template = "shop/article.html"

    class Meta:
        app_label = "shop"

    @route("plain/<int:number>/")
    def plain(self, request, number):
        return HttpResponse(f"{self.title} {number} {request.user.username}")


async def live(request):
    pages = Article.objects.live().order_by("path")
    return JsonResponse({"titles": [page.title async for page in pages]})


async def write(request, slug):
    """Rename a page, and write one below it."""
    page, user = await aget_object_or_404(Article, slug=slug), await request.auser()
    page.title = f"{slug} of {user.username}"
    await page.asave()
    child = Article(title=f"New in {slug}", slug="new", owner=user)
    await sync_to_async(page.add_child)(instance=child)
    await sync_to_async(lambda: child.save_revision(user=user).publish(user=user))()
    return HttpResponse(await sync_to_async(child.get_url)(request))


async def write_or_not(request, slug):
    async with transaction.atomic():
        response = await write(request, slug)
        if "crash" in request.GET:
            raise ValueError
    return response


urlpatterns = [
    path("live/", live),
    path("write/<slug:slug>/", write),
    path("write/<slug:slug>/atomic/", write_or_not),
    path("admin/", include(wagtailadmin_urls)),
    path("", include(wagtail_urls)),
]


def plant(*slugs):
    """The root, a front page, and the sections below it."""
    Locale.objects.create(language_code="en")
    front = Article(title="Front", slug="front", body="<p>Hello</p>")
    Page.add_root(instance=Page(title="Root", slug="root")).add_child(instance=front)
    Site.objects.create(hostname="testserver", root_page=front, is_default_site=True)
    return {slug: front.add_child(instance=Article(title=slug, slug=slug)) for slug in slugs}


async def editor(name):
    """Somebody who has logged in to the admin."""
    await User.objects.acreate_superuser(name, f"{name}@example.org", "right")
    client = AsyncClient(raise_request_exception=False)
    data = {"username": name, "password": "right", "next": "/admin/"}
    refused = await client.post("/admin/login/", {**data, "password": "wrong"})
    assert "Please try again" in refused.content.decode()
    assert (await client.post("/admin/login/", data)).url == "/admin/"
    return client


async def create(client, parent, title, action="action-publish"):
    data = {"title": title, "slug": title.lower(), "body": "null", action: action}
    return await client.post(f"/admin/pages/add/shop/article/{parent.pk}/", data)


async def served():
    section = (await sync_to_async(plant)("news"))["news"]
    ada, stranger = await editor("ada"), AsyncClient()
    page = (await ada.get("/")).content.decode()
    assert page == "Front: <p>Hello</p> in Root/ by ada [/news/]"
    assert (await stranger.get("/news/")).content == b"news:  in Root/Front/ by "
    assert (await ada.get("/news/plain/7/")).content == b"news 7 ada"
    for url in ("/nowhere/", "/news/plain/x/"):
        assert (await stranger.get(url)).status_code == 404
    await sync_to_async(Redirect.add_redirect)("/old/", section)
    assert (await stranger.get("/old/")).url == "/news/"
    await Restriction.objects.acreate(page=section, restriction_type="login")
    assert (await stranger.get("/news/")).url.endswith("/_util/login/?next=/news/")
    assert (await ada.get("/news/")).status_code == 200


async def edited_in_the_admin():
    section = (await sync_to_async(plant)("news"))["news"]
    ada, stranger = await editor("ada"), AsyncClient()
    assert "Dashboard" in (await ada.get("/admin/")).content.decode()
    assert (await stranger.get("/admin/")).url.startswith("/admin/login/")
    assert (await create(stranger, section, "No")).url.startswith("/admin/login/")
    page = await create(ada, section, "")
    assert "could not be created" in page.content.decode()

    await create(ada, section, "Draft", "action-draft")
    draft = await Article.objects.aget(slug="draft")
    assert draft.live is False
    assert (await stranger.get("/news/draft/")).status_code == 404
    url = f"/admin/pages/{draft.pk}/edit/"
    data = {"title": "Final", "slug": "final", "body": "null", "action-publish": "1"}
    assert (await ada.post(url, data)).status_code == 302
    assert (await stranger.get("/news/final/")).content.startswith(b"Final: ")
    assert (await stranger.get("/live/")).json()["titles"] == ["Front", "news", "Final"]
    assert "Final" in (await ada.get(f"/admin/pages/{section.pk}/")).content.decode()
    assert (await ada.post(f"/admin/pages/{draft.pk}/unpublish/")).status_code == 302
    assert (await stranger.get("/live/")).json()["titles"] == ["Front", "news"]


async def many_at_once():
    names = [f"user{number}" for number in range(4)]
    sections = await sync_to_async(plant)(*names, *(f"co-{name}" for name in names))
    clients = {name: await editor(name) for name in names}
    await asyncio.gather(
        *(create(client, sections[name], f"By-{name}") for name, client in clients.items()),
        *(client.get(f"/write/co-{name}/") for name, client in clients.items()),
    )
    for name in names:
        for section, slug in (name, f"by-{name}"), (f"co-{name}", "new"):
            page = await Article.objects.select_related("owner").aget(
                slug=slug, path__startswith=sections[section].path, live=True
            )
            log = PageLogEntry.objects.select_related("user")
            entry = await log.aget(page=page, action="wagtail.publish")
            assert page.owner.username == entry.user.username == name
        assert await Revision.objects.filter(user__username=name).acount() == 2
        page = await clients[name].get(f"/co-{name}/plain/7/")
        assert page.content.decode() == f"co-{name} of {name} 7 {name}"


@site_of.needs_us
async def undone_in_a_coroutine():
    await sync_to_async(plant)("news", "prose")
    ada = await editor("ada")
    failed, done = await asyncio.gather(
        ada.get("/write/news/atomic/?crash=1"), ada.get("/write/prose/atomic/")
    )
    assert (failed.status_code, done.content) == (500, b"/prose/new/")
    titles = (await ada.get("/live/")).json()["titles"]
    assert titles == ["Front", "news", "prose of ada", "New in prose"]
    entries = PageLogEntry.objects.filter(user__username="ada", action="wagtail.publish")
    assert [entry.label async for entry in entries] == ["New in prose"]
    assert await Revision.objects.acount() == 1


site_of.run(served, edited_in_the_admin, many_at_once, undone_in_a_coroutine)
