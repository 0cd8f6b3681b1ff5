"""The tables in docs/state.rst: each figure is measured, inside the bridge and awaited."""

import asyncio
import contextlib
import itertools
import re
import time
from pathlib import Path

import pytest
from asgi import Client
from asgiref.sync import iscoroutinefunction
from blockbuster import BlockingError
from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth import hashers, models
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.decorators import login_required, permission_required, user_passes_test
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.mixins import (
    LoginRequiredMixin,
    PermissionRequiredMixin,
    UserPassesTestMixin,
)
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.contrib.contenttypes.models import ContentType
from django.contrib.flatpages.models import FlatPage
from django.contrib.flatpages.views import flatpage
from django.contrib.redirects.models import Redirect
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.contrib.sessions.backends.file import SessionStore as FileSessionStore
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sites.models import Site
from django.contrib.sites.shortcuts import get_current_site
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.db import connections
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import Signal
from django.http import Http404, HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.module_loading import import_string
from django.views import View
from hops import count_hops
from servers import answers, memcached_cache, redis_cache
from staying import on_the_loop, own, urlconf
from testapp.models import Author, Book, Tag

from django_aio import cooperative, run

DOCS = Path(__file__).parents[1] / "docs" / "state.rst"
CHEAP = "django.contrib.auth.hashers.MD5PasswordHasher"
DEFAULT = "django.contrib.auth.hashers.PBKDF2PasswordHasher"
SERVERS = {"Redis": redis_cache, "memcached": memcached_cache}
CLASSES = {
    "database": "db.DatabaseCache",
    "local memory": "locmem.LocMemCache",
    "dummy": "dummy.DummyCache",
    "files": "filebased.FileBasedCache",
}
number = itertools.count(1)


def documented(label):
    """The rows of one table: {name: (figure, figure)}. A dash is None."""
    text = DOCS.read_text().partition(f".. _{label}:\n")[2]
    table = re.split(r"\n(?=\S)", text.partition(".. list-table::\n")[2])[0]
    rows = re.findall(r"^   \* - (.+(?:\n       .+)*)\n     - (\S+)\n     - (\S+)$", table, re.M)
    figures = {"-": None, **{str(figure): figure for figure in range(10)}}
    return {re.sub(r"\s+", " ", name): (figures[a], figures[b]) for name, a, b in rows}


async def hops_of(prepare, call):
    """The hand-overs of a call of either colour, with everything warm."""
    for measured in (False, True):
        await run(prepare)
        with count_hops() as hops:
            await (call() if iscoroutinefunction(call) else run(call))
        if measured:
            return own(hops.work)
    raise AssertionError


def nothing():
    """No preparation."""


def assert_same(expected, found):
    """Compare the figures of rows; found has the hand-overs, or None where there is no call."""
    figures = {name: None if hops is None else len(hops) for name, hops in found.items()}
    wrong = {name for name, figure in figures.items() if figure != expected[name]}
    shown = [
        f"{name}: {figures[name]}, not {expected[name]}\n{''.join(found[name] or [])}"
        for name in sorted(wrong)
    ]
    assert not wrong, "\n".join(shown)


@pytest.fixture(autouse=True)
def persistent(db, monkeypatch):
    """Connections live longer than a request, as on a site: connecting is not what is tested."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)


def colours(names):
    """The row of a method that has two colours, and of one that has one."""
    return {
        f"`{name}()`, `{twin}()`" if twin else f"`{name}()`": (name, twin) for name, twin in names
    }


async def test_the_detectors_see_what_they_are_there_for():
    with pytest.raises(AssertionError, match="submit"), on_the_loop():
        await asyncio.to_thread(nothing)
    with pytest.raises(BlockingError), on_the_loop():
        await run(time.sleep, 0.001)
    with pytest.raises(AssertionError, match="row: 1, not 0"):
        assert_same({"row": 0}, {"row": await hops_of(nothing, hop)})


async def hop():
    await asyncio.to_thread(nothing)


# Caches: each method, on each backend.

CACHE = {
    "get": ("there",),
    "set": ("there", 1),
    "add": ("new", 1),
    "delete": ("there",),
    "touch": ("there", 60),
    "has_key": ("there",),
    "incr": ("there",),
    "decr": ("there",),
    "get_many": (["there", "other"],),
    "set_many": ({"there": 1, "other": 1},),
    "delete_many": (["there", "other"],),
    "get_or_set": ("new", 1),
    "incr_version": ("there",),
    "decr_version": ("there", 0),
    "clear": (),
}
CACHE_ROWS = colours((name, f"a{name}") for name in CACHE)


def cache_settings(backend, folder):
    if backend in SERVERS:
        return SERVERS[backend]()
    return {
        "BACKEND": f"django.core.cache.backends.{CLASSES[backend]}",
        "LOCATION": str(folder) if backend == "files" else "cache_of_the_hops",
    }


@pytest.fixture(params=[*SERVERS, *CLASSES])
def backend(request, tmp_path, db):
    """The default cache is of that backend. Skipped where its server does not answer."""
    name = request.param
    if name in SERVERS and not answers(name):
        pytest.skip(f"{name} does not answer")
    with override_settings(CACHES={"default": cache_settings(name, tmp_path)}):
        if name == "database":
            call_command("createcachetable")
        yield name
        if name == "database":
            with connections["default"].cursor() as cursor:
                cursor.execute("DROP TABLE cache_of_the_hops")


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_caches(backend, colour):
    rows = documented("hops-caches")
    expected = {name: figures[backend == "files"] for name, figures in rows.items()}
    assert list(expected) == list(CACHE_ROWS)
    cache, found = caches["default"], {}

    def prepare():
        cache.set_many({"there": 1, "other": 1})
        cache.delete("new")

    for row, methods in CACHE_ROWS.items():
        if methods[0] == "clear" and backend == "memcached":
            found[row] = []  # it would empty the server, whoever else uses it
            continue
        found[row] = []
        # The dummy cache has no key to increment.
        with contextlib.suppress(ValueError) if backend == "dummy" else contextlib.nullcontext():
            call = with_arguments(getattr(cache, methods[colour]), *CACHE[methods[0]])
            found[row] = await hops_of(prepare, call)
    await run(cache.delete_many, ["there", "other", "new"])
    assert_same(expected, found)


def with_arguments(method, *arguments):
    """A call without arguments, of the method's colour."""
    if not iscoroutinefunction(method):
        return lambda: method(*arguments)

    async def call():
        return await method(*arguments)

    return call


# Sessions: each method, of each engine.

SESSION = {
    ("get", "aget"): ("visits",),
    ("__setitem__", "aset"): ("visits", 2),
    ("pop", "apop"): ("visits",),
    ("setdefault", "asetdefault"): ("visits", 2),
    ("update", "aupdate"): ({"visits": 2},),
    ("has_key", "ahas_key"): ("visits",),
    ("keys", "akeys"): (),
    ("load", "aload"): (),
    ("save", "asave"): (),
    ("create", "acreate"): (),
    ("exists", "aexists"): ("0123456789abcdef0123456789abcdef",),
    ("delete", "adelete"): (),
    ("cycle_key", "acycle_key"): (),
    ("flush", "aflush"): (),
    ("clear_expired", "aclear_expired"): (),
}
SESSION_ROWS = {
    name.replace("`__setitem__()`", "`session[key] = value`"): methods
    for name, methods in colours(SESSION).items()
}
ENGINES = ["db", "cache", "cached_db", "signed_cookies", "file"]


@pytest.fixture
def session_files(tmp_path, monkeypatch):
    """A folder of its own for sessions in files, whose class remembers one."""
    monkeypatch.setattr(FileSessionStore, "_storage_path", str(tmp_path), raising=False)


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
@pytest.mark.parametrize("engine", ENGINES)
async def test_sessions(engine, colour, session_files):
    rows = documented("hops-sessions")
    expected = {name: figures[engine == "file"] for name, figures in rows.items()}
    assert list(expected) == list(SESSION_ROWS)
    store_class = import_string(f"django.contrib.sessions.backends.{engine}.SessionStore")
    stores, found = [], {}

    def prepare():
        stored = store_class()
        stored["visits"] = 1
        stored.save()
        stores.append(store_class(stored.session_key))

    for row, methods in SESSION_ROWS.items():
        call = latest(stores, methods[colour], SESSION[methods])
        found[row] = await hops_of(prepare, call)
    assert_same(expected, found)


def latest(objects, name, arguments):
    """A call of the last object's method."""
    if not name.startswith("a"):  # no method of that name but the awaitable ones
        return lambda: getattr(objects[-1], name)(*arguments)

    async def call():
        return await getattr(objects[-1], name)(*arguments)

    return call


# Authentication: each call with its twin.


class State:
    """What the rows use: made anew before each call, outside of what is counted."""

    def __init__(self, user):
        self.stored = user

    def prepare(self):
        self.user = User.objects.get(pk=self.stored.pk)
        self.request = request_of(self.user)
        self.nobody = request_of(None)
        self.name = f"user {next(number)}"


def request_of(user):
    """A request with a session, in which somebody may be logged in."""
    request = HttpRequest()
    request.session = DatabaseSession()
    if user is not None:
        auth.login(request, user, "django.contrib.auth.backends.ModelBackend")
        request.session.save()
        request.session = DatabaseSession(request.session.session_key)
    AuthenticationMiddleware(lambda request: None).process_request(request)
    return request


def auth_calls(state):
    """{row: (what is called in the bridge, what is awaited)}."""
    password = {"password": "secret"}
    login = {"backend": "django.contrib.auth.backends.ModelBackend"}
    permission = "testapp.add_author"

    async def auser():
        return (await state.request.auser()).pk

    def pairs(owner, name, *arguments, **named):
        async def awaited():
            return await getattr(owner(), f"a{name}")(*arguments, **named)

        return lambda: getattr(owner(), name)(*arguments, **named), awaited

    def module(name, *arguments, **named):
        """A function whose arguments are known when it is called."""

        async def awaited():
            return await getattr(auth, f"a{name}")(*[each() for each in arguments], **named)

        return lambda: getattr(auth, name)(*[each() for each in arguments], **named), awaited

    def create(name):
        async def awaited():
            await getattr(User.objects, f"a{name}")(state.name, **password)

        return lambda: getattr(User.objects, name)(state.name, **password), awaited

    user, request = lambda: state.user, lambda: state.request
    return {
        "`authenticate()`": module("authenticate", request, username="reader", **password),
        "`authenticate()`, no such user": module(
            "authenticate", request, username="nobody", **password
        ),
        "`check_password()`": pairs(user, "check_password", "secret"),
        "`create_user()`": create("create_user"),
        "`create_superuser()`": create("create_superuser"),
        "`make_password()`": (lambda: hashers.make_password("secret"), None),
        "`login()`": module("login", lambda: state.nobody, user, **login),
        "`logout()`": module("logout", request),
        "`get_user()`": module("get_user", request),
        "`request.user`, `request.auser()`": (lambda: state.request.user.pk, auser),
        "`update_session_auth_hash()`": module("update_session_auth_hash", request, user),
        "`has_perm()`": pairs(user, "has_perm", permission),
        "`has_perms()`": pairs(user, "has_perms", [permission]),
        "`has_module_perms()`": pairs(user, "has_module_perms", "testapp"),
        "`get_user_permissions()`": pairs(user, "get_user_permissions"),
        "`get_group_permissions()`": pairs(user, "get_group_permissions"),
        "`get_all_permissions()`": pairs(user, "get_all_permissions"),
        "`get_by_natural_key()`": pairs(lambda: User.objects, "get_by_natural_key", "reader"),
    }


@pytest.fixture
def state(db):
    with override_settings(PASSWORD_HASHERS=[CHEAP]):
        user = User.objects.create_user("reader", password="secret")
    content_type = ContentType.objects.get_for_model(Author)
    user.user_permissions.add(
        models.Permission.objects.get(content_type=content_type, codename="add_author")
    )
    connections.close_all()
    return State(user)


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_authentication(colour, state):
    expected = {name: row[0] for name, row in documented("hops-auth").items()}
    calls = auth_calls(state)
    assert list(expected) == list(calls)
    found = {}
    with override_settings(PASSWORD_HASHERS=[CHEAP]):
        for name, call in calls.items():
            if call[colour] is not None:
                found[name] = await hops_of(state.prepare, call[colour])
    assert_same(expected, found)


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_hashing(colour, state):
    expected = {name: row[1] for name, row in documented("hops-auth").items()}
    found = {}
    with override_settings(PASSWORD_HASHERS=[DEFAULT, CHEAP]):
        await run(state.stored.set_password, "secret")
        await state.stored.asave()
        for name, call in auth_calls(state).items():
            if call[colour] is not None:
                found[name] = await hops_of(state.prepare, call[colour])
    assert_same(expected, found)


# Pages: a request through the default middleware, with a view of either colour.


@cooperative
def page(request):
    return HttpResponse("page")


async def apage(request):
    return HttpResponse("page")


@cooperative
def passes(user):
    return user.is_authenticated


@cooperative
class Page(View):
    def get(self, request):
        return page(request)


@cooperative
class CoroutinePage(View):
    async def get(self, request):
        return page(request)


def behind(mixin, **attributes):
    """A class-based view of either colour with the mixin before it."""
    return tuple(
        cooperative(type("Page", (mixin, base), attributes)).as_view()
        for base in (Page, CoroutinePage)
    )


def decorated(decorator):
    return decorator(page), decorator(apage)


permission = "testapp.add_author"
PAGES = {
    "`login_required`": decorated(login_required),
    "`user_passes_test`": decorated(user_passes_test(passes)),
    "`permission_required`": decorated(permission_required(permission)),
    "`LoginRequiredMixin`": behind(LoginRequiredMixin),
    "`PermissionRequiredMixin`": behind(PermissionRequiredMixin, permission_required=permission),
    "`UserPassesTestMixin`": behind(
        UserPassesTestMixin, test_func=cooperative(lambda self: self.request.user.is_active)
    ),
    "the login page": (LoginView.as_view(template_name="form.html"), None),
}


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_pages(colour, state):
    expected = {name: row[colour] for name, row in documented("hops-pages").items()}
    assert list(expected) == list(PAGES)
    found = {
        name: views[colour] and await hops_of_page(state, views[colour])
        for name, views in PAGES.items()
    }
    assert_same(expected, found)


async def hops_of_page(state, view, url="/", status=200, **overridden):
    """The hand-overs of one request by somebody who is logged in."""
    patterns = urlconf(path("", view), path("missing/", view))
    with override_settings(ROOT_URLCONF=patterns, **overridden):
        client = Client()
        client.cookies[settings.SESSION_COOKIE_NAME] = await run(session_key, state)

        async def call():
            assert (await client.get(url)).status == status

        return await hops_of(nothing, call)


def session_key(state):
    state.prepare()
    return state.request.session.session_key


# Signals: each kind of receiver.

signal = Signal()


async def receive(sender, **kwargs):
    return await Author.objects.acount()


async def receive_too(sender, **kwargs):
    return await Author.objects.acount()


@cooperative
def receive_on_the_loop(sender, **kwargs):
    return Author.objects.count()


def receive_in_a_thread(sender, **kwargs):
    return Author.objects.count()


def receive_in_a_thread_too(sender, **kwargs):
    return Author.objects.count()


def sending(name, twin):
    async def awaited():
        return await getattr(signal, twin)(None)

    return lambda: getattr(signal, name)(None), awaited


def method_pair(make, name, *arguments):
    """A method, with its twin, of what `make()` returns: made before, and not counted."""
    made = []

    def prepare():
        made.append(make())

    async def awaited():
        await getattr(made[-1], f"a{name}")(*arguments)

    return prepare, (lambda: getattr(made[-1], name)(*arguments), awaited)


def new_author():
    return Author(name=f"author {next(number)}")


def stored_author():
    author = new_author()
    Author.objects.bulk_create([author])
    return author


def readers():
    book = Book(title="Emma", author=stored_author())
    Book.objects.bulk_create([book])
    return book.readers


SEND = (nothing, sending("send", "asend"))
SEND_ROBUST = (nothing, sending("send_robust", "asend_robust"))
SAVE = method_pair(new_author, "save")
DELETE = method_pair(stored_author, "delete")
ADD = method_pair(readers, "add")
SIGNALS = {
    "`send()`, `asend()`: a coroutine function": (SEND, signal, [receive]),
    "`send()`, `asend()`: two coroutine functions": (SEND, signal, [receive, receive_too]),
    "`send()`, `asend()`: a function on the list": (SEND, signal, [receive_on_the_loop]),
    "`send()`, `asend()`: a function that is not": (SEND, signal, [receive_in_a_thread]),
    "`send()`, `asend()`: two functions that are not": (
        SEND,
        signal,
        [receive_in_a_thread, receive_in_a_thread_too],
    ),
    "`send_robust()`, `asend_robust()`: one of each": (
        SEND_ROBUST,
        signal,
        [receive, receive_on_the_loop, receive_in_a_thread],
    ),
    "`save()`, `asave()`: a coroutine function": (SAVE, post_save, [receive]),
    "`save()`, `asave()`: a function on the list": (SAVE, post_save, [receive_on_the_loop]),
    "`save()`, `asave()`: a function that is not": (SAVE, post_save, [receive_in_a_thread]),
    "`delete()`, `adelete()`: a coroutine function": (DELETE, post_delete, [receive]),
    "`add()`, `aadd()` of many-to-many: a coroutine function": (ADD, m2m_changed, [receive]),
}


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_signals(colour):
    expected = {name: row[colour] for name, row in documented("hops-signals").items()}
    assert list(expected) == list(SIGNALS)
    found = {}
    for name, ((prepare, calls), sent, receivers) in SIGNALS.items():
        for each in receivers:
            sent.connect(each)
        try:
            found[name] = await hops_of(prepare, calls[colour])
        finally:
            for each in receivers:
                assert sent.disconnect(each)
    assert_same(expected, found)


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


# Code that is not on the list: this module.


class ThirdPartyCache(LocMemCache):
    def get(self, key, default=None, version=None):
        return super().get(key, default, version)


class SessionStore(SessionBase):  # the name that an engine's class has
    def load(self):
        return {"visits": 1}


class ThirdPartyBackend(BaseBackend):
    def authenticate(self, request, username=None, password=None, **kwargs):
        return User.objects.get(username=username)


def third_party(state):
    """{row: (settings, what is called in the bridge, what is awaited)}."""
    here = __name__

    async def aget():
        return await caches["default"].aget("key")

    async def aload():
        return await SessionStore(state.request.session.session_key).aload()

    credentials = {"username": "reader", "password": "secret"}

    async def aauthenticate():
        assert await auth.aauthenticate(**credentials)

    return {
        "cache backend, `get()`, `aget()`": (
            {"CACHES": {"default": {"BACKEND": f"{here}.ThirdPartyCache"}}},
            lambda: caches["default"].get("key"),
            aget,
        ),
        "session engine, `load()`, `aload()`": (
            {"SESSION_ENGINE": here},
            lambda: sessions_of_requests()(state.request.session.session_key).load(),
            aload,
        ),
        "authentication backend, `authenticate()`, `aauthenticate()`": (
            {"AUTHENTICATION_BACKENDS": [f"{here}.ThirdPartyBackend"]},
            lambda: auth.authenticate(**credentials),
            aauthenticate,
        ),
    }


def sessions_of_requests():
    """The class that the middleware makes sessions of."""
    return SessionMiddleware(lambda request: None).SessionStore


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_third_party(colour, state):
    expected = {name: row[colour] for name, row in documented("hops-third-party").items()}
    rows = third_party(state)
    assert list(expected) == list(rows)
    found = {}
    for name, (overridden, *calls) in rows.items():
        with override_settings(**overridden):
            found[name] = await hops_of(state.prepare, calls[colour])
    assert_same(expected, found)
