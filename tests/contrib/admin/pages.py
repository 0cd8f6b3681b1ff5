"""An admin site, the same with a coroutine function in the place of every method, and its pages."""

import asyncio
import functools
import inspect
import re
from types import FunctionType

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.core.management.color import no_style
from django.db import connection
from django.http import HttpResponse
from django.urls import path
from staying import urlconf
from testapp.models import Author, Book

TOKEN = "t" * 32


class CenturyFilter(admin.SimpleListFilter):
    title = "century"
    parameter_name = "century"

    def lookups(self, request, model_admin):
        return [("18", "18th"), ("19", "19th")]

    def queryset(self, request, queryset):
        if self.value():
            return queryset.filter(born__startswith=self.value())
        return queryset


class BookInline(admin.TabularInline):
    model = Book
    fields = ("title", "pages")
    extra = 1


class Changes(ChangeList):
    def get_results(self, request):
        super().get_results(request)


@admin.action(description="Celebrate", permissions=["celebrate"])
def celebrate(model_admin, request, queryset):
    model_admin.message_user(request, f"{queryset.count()} celebrated")


def tally(model_admin, request, queryset):
    return HttpResponse(f"{queryset.count()}")


class AuthorAdmin(admin.ModelAdmin):
    list_display = ("name", "initial", "born")
    list_editable = ("born",)
    list_filter = ("born", CenturyFilter)
    search_fields = ("name",)
    ordering = ("pk",)
    readonly_fields = ("initial",)
    inlines = (BookInline,)
    actions = ("age", celebrate)

    @admin.display(description="First letter", ordering="name")
    def initial(self, author):
        return author.name[:1]

    @admin.action(description="Age by a year", permissions=["change"])
    def age(self, request, queryset):
        for author in queryset:
            author.born -= 1
            author.save()

    def has_celebrate_permission(self, request):
        return request.user.is_superuser

    def view_on_site(self, author):
        return f"/author/{author.pk}/"

    def get_changelist(self, request, **kwargs):
        return self.changelist_class

    changelist_class = Changes

    def report(self, request):
        return HttpResponse(f"{Author.objects.count()} authors")

    def get_urls(self):
        return [path("report/", self.admin_site.admin_view(self.report)), *super().get_urls()]


class BookAdmin(admin.ModelAdmin):
    list_display = ("title", "author")
    autocomplete_fields = ("author",)
    filter_horizontal = ("readers",)
    search_fields = ("title",)


CLASSES = (admin.AdminSite, AuthorAdmin, BookAdmin, UserAdmin, BookInline, CenturyFilter, Changes)
# Of models with choices, and the page after the password was changed.
UNREACHED = {"formfield_for_choice_field", "password_change_done"}

# What Django calls while the site is put together, and what is a kind of registry.
NOT_HOOKS = {
    *("check", "get_urls", "register", "unregister", "is_registered", "get_model_admin"),
    *("add_action", "disable_action", "get_action", "admin_view"),
    "log_deletion",  # deprecated, and gone with Django 6.0
}


def hooks_of(cls):
    """The public methods of a class of the admin, and those of Django's bases."""
    return sorted(
        {
            name
            for base in cls.__mro__
            for name, value in vars(base).items()
            if isinstance(value, FunctionType) and name[0] != "_" and name not in NOT_HOOKS
        }
    )


def asynchronous(cls, seen):
    """A subclass in which every method is a coroutine function that awaits something."""

    def override(name):
        upstream = getattr(cls, name)

        @functools.wraps(upstream)
        async def method(self, *args, **kwargs):
            await asyncio.sleep(0)
            seen.add(f"{cls.__name__}.{name}")
            found = getattr(super(made, self), name)(*args, **kwargs)
            return list(found) if inspect.isgenerator(found) else found

        return method

    made = type(cls)(cls.__name__, (cls,), {name: override(name) for name in hooks_of(cls)})
    made.__module__ = __name__
    return made


def awaited(func):
    """An action as a coroutine function."""

    @functools.wraps(func)
    async def call(*args):
        await asyncio.sleep(0)
        return func(*args)

    return call


def site_of(seen=None):
    """A site; with a set to fill, one of coroutine functions."""
    change = (lambda cls: asynchronous(cls, seen)) if seen is not None else (lambda cls: cls)
    adapt = awaited if seen is not None else (lambda func: func)
    site = change(admin.AdminSite)()
    attributes = {
        "inlines": (change(BookInline),),
        "actions": ("age", adapt(celebrate)),
        "list_filter": ("born", change(CenturyFilter)),
        "changelist_class": change(Changes),
        "__module__": __name__,
    }
    site.register(Author, type("AuthorAdmin", (change(AuthorAdmin),), attributes))
    site.register(Book, change(BookAdmin))
    site.register(User, change(UserAdmin))
    site.add_action(adapt(tally))
    return site


def settings_of(site):
    return {
        "ROOT_URLCONF": urlconf(path("admin/", (site.get_urls(), "admin", site.name))),
        "STATIC_URL": "/static/",
    }


author = {
    "name": "Emma",
    "born": "1815",
    "books-TOTAL_FORMS": "1",
    "books-INITIAL_FORMS": "0",
    "books-0-title": "A book",
    "books-0-pages": "10",
}
edited = {
    "form-TOTAL_FORMS": "1",
    "form-INITIAL_FORMS": "1",
    "form-0-id": "1",
    "form-0-born": "1777",
    "_save": "Save",
}
AUTHORS = "/admin/testapp/author/"
selected = {"_selected_action": ["1", "2"], "index": "0"}
# name: (path, what is posted)
PAGES = {
    "index": ("/admin/", None),
    "index of an application": ("/admin/testapp/", None),
    "change list": (AUTHORS, None),
    "change list with filters and search": (f"{AUTHORS}?q=author&century=19&o=1", None),
    "change list with facets": (f"{AUTHORS}?_facets=True", None),
    "change list, edited in place": (AUTHORS, edited),
    "add form with inlines": (f"{AUTHORS}add/", None),
    "add, with inlines": (f"{AUTHORS}add/", author),
    "add, invalid": (f"{AUTHORS}add/", {**author, "name": ""}),
    "add in a popup": (
        "/admin/testapp/book/add/?_popup=1",
        {"title": "New", "author": "1", "pages": "1", "readers": "2", "_popup": "1"},
    ),
    "change form with inlines": (f"{AUTHORS}1/change/", None),
    "change, with inlines": (f"{AUTHORS}1/change/", author),
    "delete, confirmation": (f"{AUTHORS}1/delete/", None),
    "delete": (f"{AUTHORS}1/delete/", {"post": "yes"}),
    "history": (f"{AUTHORS}1/history/", None),
    "action of the admin class": (AUTHORS, {"action": "age", **selected}),
    "action, a function": (AUTHORS, {"action": "celebrate", **selected}),
    "action of the site": (AUTHORS, {"action": "tally", **selected}),
    "delete selected, confirmation": (AUTHORS, {"action": "delete_selected", **selected}),
    "delete selected": (AUTHORS, {"action": "delete_selected", "post": "yes", **selected}),
    "autocomplete": (
        "/admin/autocomplete/?app_label=testapp&model_name=book&field_name=author&term=author",
        None,
    ),
    "form with autocomplete": ("/admin/testapp/book/add/", None),
    "users": ("/admin/auth/user/", None),
    "user": ("/admin/auth/user/1/change/", None),
    "password of a user": ("/admin/auth/user/1/password/", None),
    "view of `get_urls()`": (f"{AUTHORS}report/", None),
    "JavaScript catalog": ("/admin/jsi18n/", None),
    "password change": ("/admin/password_change/", None),
    "logout": ("/admin/logout/", {}),
    "login, when logged in": ("/admin/login/", None),
    "no such page": ("/admin/nothing/", None),
}


def prepare():
    """The same data for each request."""
    LogEntry.objects.all().delete()
    Book.objects.all().delete()
    Author.objects.all().delete()
    for number in range(1, 4):
        Author.objects.create(pk=number, name=f"author {number}", born=1700 + 100 * number)
    Book.objects.create(pk=1, title="A title", author_id=1)
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [Author, Book]):
            cursor.execute(statement)


def described(status, headers, text):
    """What tells two answers apart."""
    text = re.sub(r'(csrfmiddlewaretoken" value|csrfToken)="\w+"', "", text)
    text = re.sub(r"(name|value|pk|for|id)=.[0-9a-f]{32}\S*", "", text)
    text = re.sub(r"/\d{2,}/|&quot;\d+&quot;|\d+:\d+(:\d+)?| [ap]\.m\.", "", text)
    return status, re.sub(r"/\d+/", "/", headers.get("location", "")), text
