"""Permissions, columns, actions and views of the admin as coroutine functions; and the policy."""

import asyncio
import functools
import threading
from typing import ClassVar

import pytest
from asgi import Client
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.http import HttpResponse
from django.test import Client as DjangoClient
from django.test import RequestFactory, override_settings
from django.urls import path
from django.views import View
from testapp.models import Author, Book

from django_aio import BridgeError, cooperative, run

from .pages import AUTHORS, TOKEN, selected, settings_of

LOOP, THREAD = "on the loop", "in a thread"
LISTED = {"AIO": {"COOPERATIVE": [__name__]}}


def place():
    return LOOP if threading.current_thread() is threading.main_thread() else THREAD


@pytest.fixture(autouse=True)
def _authors(db):
    for number in range(1, 4):
        Author.objects.create(name=f"author {number}")


@pytest.fixture
def user(db):
    return User.objects.create_superuser("admin", password="secret")


def site_of(author_admin=admin.ModelAdmin, site_class=admin.AdminSite, **others):
    site = site_class()
    site.register(Author, author_admin)
    for model_admin in others.values():
        site.register(Book, model_admin)
    return site


async def ask(site, user, url, posted=None, **overridden):
    with override_settings(**settings_of(site), **overridden):
        browser = DjangoClient()
        await run(browser.force_login, user)
        client = Client()
        client.cookies.update(browser.cookies)
        client.cookies["csrftoken"] = TOKEN
        return await (client.get(url) if posted is None else client.post(url, posted))


def answer(site, user, url, posted=None):
    with override_settings(**settings_of(site)):
        browser = DjangoClient()
        browser.force_login(user)
        return browser.get(url) if posted is None else browser.post(url, posted)


# Permissions.


async def no(self, request, obj=None):
    await asyncio.sleep(0)
    return False


ADD, CHANGE, DELETE = f"{AUTHORS}add/", f"{AUTHORS}1/change/", f"{AUTHORS}1/delete/"
REFUSALS = {
    "has_add_permission": {ADD: None},
    "has_change_permission": {CHANGE: {"name": "X", "born": "1"}},
    "has_delete_permission": {DELETE: {"post": "yes"}},
    "has_view_or_change_permission": {AUTHORS: None, CHANGE: None, f"{AUTHORS}1/history/": None},
}


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_coroutine_is_no_permission(name, listed, user):
    site = site_of(type("AuthorAdmin", (admin.ModelAdmin,), {name: no, "__module__": __name__}))
    for url, posted in REFUSALS[name].items():
        assert answer(site, user, url, posted).status_code == 403
        overridden = LISTED if listed else {}
        assert asyncio.run(ask(site, user, url, posted, **overridden)).status == 403
    assert Author.objects.filter(name__startswith="author").count() == 3


@pytest.mark.parametrize("made", ["class", "metaclass", "mixin"])
def test_view_and_change_permission(made, user):
    permissions = {"has_view_permission": no, "has_change_permission": no}
    if made == "mixin":
        cls = type("A", (type("Mixin", (), permissions), admin.ModelAdmin), {})
    elif made == "metaclass":
        cls = type(admin.ModelAdmin)("A", (admin.ModelAdmin,), permissions)
    else:
        cls = type("A", (admin.ModelAdmin,), permissions)
    assert answer(site_of(cls), user, AUTHORS).status_code == 403
    assert asyncio.run(ask(site_of(cls), user, AUTHORS)).status == 403


async def test_has_module_permission(user):
    class Hidden(admin.ModelAdmin):
        async def has_module_permission(self, request):
            return False

    assert AUTHORS not in (await ask(site_of(Hidden), user, "/admin/")).text
    assert AUTHORS in (await ask(site_of(), user, "/admin/")).text


@pytest.mark.parametrize("name", ["has_add_permission", "has_view_or_change_permission"])
async def test_permissions_of_inlines(name, user):
    class Books(admin.TabularInline):
        model = Book
        fields = ("title",)
        has_delete_permission = no

    refusing = type("Refusing", (Books,), {name: no})
    if name != "has_add_permission":
        refusing.has_add_permission = Books.has_add_permission
    shown = {}
    for inline in (Books, refusing):
        site = site_of(type("A", (admin.ModelAdmin,), {"inlines": [inline]}))
        shown[inline] = "books-0-title" in (await ask(site, user, CHANGE)).text
    assert shown[Books] is True
    assert shown[refusing] is (name != "has_add_permission")


async def test_has_permission_of_the_site(user):
    class Closed(admin.AdminSite):
        async def has_permission(self, request):
            await asyncio.sleep(0)
            return False

    for overridden in ({}, LISTED):
        for url in ("/admin/", AUTHORS, ADD):
            response = await ask(site_of(site_class=Closed), user, url, **overridden)
            assert response.status == 302
            assert response.headers["location"].startswith("/admin/login/")


async def test_permission_that_an_action_asks_for(user):
    """`has_publish_permission()` overrides nothing."""

    class Publishing(admin.ModelAdmin):
        actions = ("publish",)

        @admin.action(permissions=["publish"])
        def publish(self, request, queryset):
            return HttpResponse("published")

        async def has_publish_permission(self, request):
            await asyncio.sleep(0)
            return request.user.username == "other"

    site = site_of(Publishing)
    posted = {"action": "publish", "_selected_action": "1"}
    assert "Publish" not in (await ask(site, user, AUTHORS)).text
    assert (await ask(site, user, AUTHORS, posted)).status == 302
    other = await User.objects.acreate_superuser("other")
    assert (await ask(site, other, AUTHORS, posted)).text == "published"


async def test_permissions_of_users_are_those_of_the_database(db):
    """Nothing here lets in whom Django would not."""
    staff = await User.objects.acreate_user("staff", is_staff=True)
    assert (await ask(site_of(), staff, AUTHORS)).status == 403

    def permit():
        kind = ContentType.objects.get_for_model(Author)
        name = {"codename": "view_author", "content_type": kind}
        permission, _ = Permission.objects.get_or_create(**name, defaults={"name": "view"})
        staff.user_permissions.add(permission)

    await run(permit)
    assert (await ask(site_of(), staff, AUTHORS)).status == 200
    assert (await ask(site_of(), staff, ADD)).status == 403


# Columns and read-only fields.


async def initial_of(author):
    await asyncio.sleep(0)
    return f"function {author.name}"


class Columns(admin.ModelAdmin):
    list_display = ("name", "described", initial_of, "awaited")
    readonly_fields = ("described", initial_of, "awaited")

    @admin.display(description="Described", boolean=False)
    async def described(self, author):
        await asyncio.sleep(0)
        return f"method {author.name}"


@pytest.fixture
def model_method(monkeypatch):
    async def awaited(self):
        return f"model {await Author.objects.filter(pk=self.pk).acount()}"

    monkeypatch.setattr(Author, "awaited", awaited, raising=False)


@pytest.mark.parametrize("url", [AUTHORS, CHANGE])
def test_columns(url, user, model_method):
    site = site_of(Columns)
    texts = [
        answer(site, user, url).content.decode(),
        asyncio.run(ask(site, user, url)).text,
        asyncio.run(ask(site, user, url, **LISTED)).text,
    ]
    for text in texts:
        for shown in ("method author 1", "function author 1", "model 1", "Described"):
            assert shown in text


# Actions.


def where(model_admin, request, queryset):
    return HttpResponse(f"{place()} {queryset.count()} {type(model_admin).__name__}")


async def awhere(model_admin, request, queryset):
    return HttpResponse(f"{place()} {await queryset.acount()} {type(model_admin).__name__}")


@cooperative
def listed_where(model_admin, request, queryset):
    return where(model_admin, request, queryset)


@cooperative
class Acting(admin.ModelAdmin):
    actions = ("own", "aown", where, awhere, listed_where)
    own = where

    async def aown(self, request, queryset):
        return await awhere(self, request, queryset)


class Overriding(Acting):
    @functools.wraps(admin.ModelAdmin.get_actions)
    def get_actions(self, request, *args, **kwargs):
        return {**super().get_actions(request, *args, **kwargs), "more": (awhere, "more", "More")}


PLACES = {
    "own": LOOP,
    "aown": LOOP,
    "where": THREAD,
    "awhere": LOOP,
    "listed_where": LOOP,
    "site_where": THREAD,
    "site_awhere": LOOP,
}


@pytest.mark.parametrize("name", PLACES)
def test_actions(name, user):
    """A trusted admin class, and actions of which some are not."""
    site = site_of(Acting)
    site.add_action(where, "site_where")
    site.add_action(awhere, "site_awhere")
    posted = {**selected, "action": name, "_selected_action": "2"}
    assert asyncio.run(ask(site, user, AUTHORS, posted)).text == f"{PLACES[name]} 1 Acting"
    assert answer(site, user, AUTHORS, posted).content.decode().endswith(" 1 Acting")


def test_actions_of_an_overridden_method(user):
    posted = {**selected, "action": "more", "_selected_action": "2"}
    assert asyncio.run(ask(site_of(Overriding), user, AUTHORS, posted)).text.endswith("Overriding")
    assert answer(site_of(Overriding), user, AUTHORS, posted).content.endswith(b"Overriding")


async def test_the_list_of_actions_is_that_of_django(user):
    site = site_of(Acting)
    request = RequestFactory().get("/")
    request.user = user
    found = await run(site.get_model_admin(Author).get_actions, request)
    assert list(found) == ["delete_selected", "own", "aown", "where", "awhere", "listed_where"]


async def test_an_action_that_returns_nothing_redirects(user):
    done = []

    async def silent(model_admin, request, queryset):
        await asyncio.sleep(0)
        done.append(await queryset.acount())

    site = site_of(type("A", (admin.ModelAdmin,), {"actions": [silent]}))
    posted = {"action": "silent", "_selected_action": "2"}
    assert (await ask(site, user, AUTHORS, posted)).status == 302
    assert done == [1]


# Views.


class Reports(admin.ModelAdmin):
    def get_urls(self):
        def wrap(view):
            """As Django documents it."""

            def wrapper(*args, **kwargs):
                return self.admin_site.admin_view(view)(*args, **kwargs)

            return functools.update_wrapper(wrapper, view)

        views = {
            "method/": self.admin_site.admin_view(self.report),
            "wrapped/": wrap(self.report),
            "class/": self.admin_site.admin_view(AsyncReport.as_view()),
            "wrapped-class/": wrap(AsyncReport.as_view()),
            "sync/": self.admin_site.admin_view(self.sync_report),
        }
        return [*(path(url, view) for url, view in views.items()), *super().get_urls()]

    async def report(self, request):
        await asyncio.sleep(0)
        return HttpResponse(f"{place()} {request.user}")

    def sync_report(self, request):
        return HttpResponse(f"{place()} {request.user}")


class AsyncReport(View):
    async def get(self, request):
        await asyncio.sleep(0)
        return HttpResponse(f"{place()} {request.user}")


@pytest.mark.parametrize("url", ["method/", "wrapped/", "class/", "wrapped-class/", "sync/"])
def test_views_of_get_urls(url, user):
    site = site_of(Reports)
    assert asyncio.run(ask(site, user, AUTHORS + url, **LISTED)).text == f"{LOOP} admin"
    expected = THREAD if url == "sync/" else LOOP
    assert asyncio.run(ask(site, user, AUTHORS + url)).text == f"{expected} admin"
    assert answer(site, user, AUTHORS + url).content.endswith(b" admin")
    nobody = User.objects.create_user("nobody")
    assert answer(site, nobody, AUTHORS + url).status_code == 302
    assert asyncio.run(ask(site, nobody, AUTHORS + url)).status == 302


async def test_a_view_of_the_admin_class(user):
    class Overridden(admin.ModelAdmin):
        async def changelist_view(self, request, extra_context=None):
            response = super().changelist_view(request, extra_context)
            response.headers["X-Place"] = place()
            return response

    class Derived(Overridden):
        async def changelist_view(self, request, extra_context=None):
            response = await super().changelist_view(request, extra_context)
            response.headers["X-Derived"] = "yes"
            return response

    response = await ask(site_of(Derived), user, AUTHORS)
    assert (response.status, response.headers["x-place"]) == (200, LOOP)
    assert response.headers["x-derived"] == "yes"


async def test_a_hook_that_a_coroutine_reaches_directly_says_what_to_do(user):
    request = RequestFactory().get("/")
    request.user = user
    model_admin = site_of(type("A", (admin.ModelAdmin,), {"has_view_permission": no}))
    model_admin = model_admin.get_model_admin(Author)
    with pytest.raises(BridgeError, match=r"no\(\) is a coroutine function.*await run"):
        model_admin.has_view_or_change_permission(request)
    assert await model_admin.has_view_permission(request) is False
    assert await run(model_admin.has_view_or_change_permission, request) is True  # may change


# The policy.


class Where(admin.ModelAdmin):
    list_display = ("name", "place")
    search_fields = ("name",)
    ordering = ("pk",)
    seen: ClassVar[set[str]] = set()

    def place(self, author):
        return place()

    def has_module_permission(self, request):
        self.seen.add(f"permission {place()}")
        return True

    def get_search_results(self, request, queryset, search_term):
        self.seen.add(f"search {place()}")
        return super().get_search_results(request, queryset, search_term)


class Books(admin.ModelAdmin):
    autocomplete_fields = ("author",)


SEARCH = "/admin/autocomplete/?app_label=testapp&model_name=book&field_name=author&term=author"


@pytest.mark.parametrize(("overridden", "expected"), [({}, THREAD), (LISTED, LOOP)])
async def test_where_the_code_of_an_admin_class_runs(overridden, expected, user):
    """Also what pages of the site, which are Django's, ask it."""
    site = site_of(Where, books=Books)
    Where.seen.clear()
    assert f"{expected}</td>" in (await ask(site, user, AUTHORS, **overridden)).text
    for url in ("/admin/", "/admin/testapp/", SEARCH):
        assert (await ask(site, user, url, **overridden)).status == 200
    assert Where.seen == {f"permission {expected}", f"search {expected}"}


async def test_a_hook_of_an_unlisted_class_is_awaited_from_its_thread(user):
    class Both(Where):
        async def get_queryset(self, request):
            self.seen.add(f"queryset {place()}")
            return super().get_queryset(request)

    Where.seen.clear()
    response = await ask(site_of(Both, books=Books), user, AUTHORS)
    assert f"{THREAD}</td>" in response.text
    assert Where.seen == {f"permission {THREAD}", f"queryset {LOOP}", f"search {THREAD}"}
