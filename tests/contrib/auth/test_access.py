"""Decorators and mixins that guard views: of each colour, on functions and on classes."""

import asyncio
import functools

import pytest
from asgi import Client
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required, permission_required, user_passes_test
from django.contrib.auth.mixins import (
    AccessMixin,
    LoginRequiredMixin,
    PermissionRequiredMixin,
    UserPassesTestMixin,
)
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.test import RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from staying import urlconf
from testapp.models import Book

from django_aio import BridgeError, cooperative, run

ALLOWED, DENIED, TO_LOGIN = 200, 403, 302
MODEL = "django.contrib.auth.backends.ModelBackend"


def view(request):
    return HttpResponse("in")


async def aview(request):
    return HttpResponse("in")


class Sync(View):
    def get(self, request):
        return HttpResponse("in")


class Async(View):
    async def get(self, request):
        return HttpResponse("in")


def is_reader(user):
    return user.get_username() == "reader"


async def ais_reader(user):
    await asyncio.sleep(0)
    return is_reader(user)


class AsyncTest:
    """Neither a coroutine function, nor marked as one."""

    def __call__(self, user):
        return ais_reader(user)


DECORATORS = {
    "login": login_required,
    "test": user_passes_test(is_reader),
    "async-test": user_passes_test(ais_reader),
    "hidden-test": user_passes_test(lambda user: ais_reader(user)),
    "partial-test": user_passes_test(functools.partial(lambda user: ais_reader(user))),
    "object-test": user_passes_test(AsyncTest()),
    "permission": permission_required("testapp.add_book"),
}


class PlainMixin(UserPassesTestMixin):
    def test_func(self):
        return is_reader(self.request.user)


class AsyncTestMixin(UserPassesTestMixin):
    async def test_func(self):
        return await ais_reader(await self.request.auser())


class HiddenTestMixin(UserPassesTestMixin):
    def get_test_func(self):
        return lambda: ais_reader(self.request.user)


class PermissionMixin(PermissionRequiredMixin):
    permission_required = "testapp.add_book"


class AsyncPermissionMixin(PermissionRequiredMixin):
    async def has_permission(self):
        user = await self.request.auser()
        return await user.ahas_perm("testapp.add_book")


class OwnRedirectMixin(AccessMixin):
    """As in many projects: a dispatch() of one's own."""

    def dispatch(self, request, *args, **kwargs):
        if not is_reader(request.user):
            return self.handle_no_permission()
        return super().dispatch(request, *args, **kwargs)

    def handle_no_permission(self):
        response = super().handle_no_permission()
        response["X-Refused"] = "yes"
        return response


MIXINS = {
    "login": LoginRequiredMixin,
    "test": PlainMixin,
    "async-test": AsyncTestMixin,
    "hidden-test": HiddenTestMixin,
    "permission": PermissionMixin,
    "async-permission": AsyncPermissionMixin,
    "own": OwnRedirectMixin,
}
COLOURS = {"sync": (view, Sync), "async": (aview, Async)}


def all_pages():
    for colour, (function, cls) in COLOURS.items():
        for name, decorate in DECORATORS.items():
            yield path(f"{colour}/function/{name}/", cooperative(decorate(function)))
            as_view = cooperative(decorate(cls.as_view()))
            yield path(f"{colour}/as_view/{name}/", as_view)
            decorated = method_decorator(decorate, name="dispatch")(type("V", (cls,), {}))
            yield path(f"{colour}/method/{name}/", cooperative(decorated).as_view())
        for name, mixin in MIXINS.items():
            guarded = cooperative(type("V", (mixin, cls), {}))
            yield path(f"{colour}/mixin/{name}/", guarded.as_view())


PATTERNS = list(all_pages())
PATHS = [str(pattern.pattern) for pattern in PATTERNS]


@pytest.fixture(autouse=True)
def _urls(db):
    trusted = {"COOPERATIVE": [__name__, "test_access", "tests.contrib.auth.test_access"]}
    with override_settings(ROOT_URLCONF=urlconf(*PATTERNS), AIO=trusted):
        yield


async def client_of(name, permitted=False):
    """A client that is logged in."""

    def prepare():
        user = User.objects.create(username=name)
        if permitted:
            kind = ContentType.objects.get_for_model(Book)
            defaults = {"name": "Can add book"}
            user.user_permissions.add(
                Permission.objects.get_or_create(
                    codename="add_book", content_type=kind, defaults=defaults
                )[0]
            )
        request = HttpRequest()
        request.session = SessionStore()
        login(request, user, MODEL)
        request.session.save()
        return request.session.session_key

    client = Client()
    client.cookies["sessionid"] = await run(prepare)
    return client


@pytest.mark.parametrize("page", PATHS)
async def test_whoever_may_comes_in(page):
    client = await client_of("reader", permitted=True)
    response = await client.get(f"/{page}")
    assert (response.status, response.text) == (ALLOWED, "in")


@pytest.mark.parametrize("page", PATHS)
async def test_whoever_is_not_logged_in_is_sent_to_log_in(page):
    response = await Client().get(f"/{page}")
    assert response.status == TO_LOGIN
    assert response.headers["location"].startswith("/accounts/login/")
    assert response.headers.get("x-refused") == ("yes" if page.endswith("/own/") else None)


@pytest.mark.parametrize("page", [page for page in PATHS if not page.endswith("/login/")])
async def test_whoever_may_not_is_refused(page):
    response = await (await client_of("somebody")).get(f"/{page}")
    assert response.status == (DENIED if "mixin" in page else TO_LOGIN)


# Called without a handler.


def request_of(user):
    request = RequestFactory().get("/")
    request.user = user

    async def auser():
        return user

    request.auser = auser
    return request


READER, NOBODY = User(username="reader"), AnonymousUser()


@pytest.mark.parametrize("mixin", [PlainMixin, AsyncTestMixin, HiddenTestMixin])
def test_in_a_plain_thread_a_coroutine_test_is_waited_for(mixin):
    """As under WSGI."""
    guarded = type("V", (mixin, Sync), {}).as_view()
    assert guarded(request_of(READER)).status_code == ALLOWED
    assert guarded(request_of(NOBODY)).status_code == TO_LOGIN


@pytest.mark.parametrize("name", ["test", "async-test", "hidden-test", "object-test"])
def test_in_a_plain_thread_decorators_wait_too(name):
    guarded = DECORATORS[name](view)
    assert guarded(request_of(READER)).status_code == ALLOWED
    assert guarded(request_of(NOBODY)).status_code == TO_LOGIN


@pytest.mark.parametrize("mixin", [AsyncTestMixin, HiddenTestMixin, AsyncPermissionMixin])
async def test_where_it_cannot_be_awaited_it_is_refused(mixin):
    """Never taken for a yes. (An unawaited coroutine would be a warning, which is an error.)"""
    guarded = type("V", (mixin, Sync), {}).as_view()
    with pytest.raises(BridgeError, match=r"\w+\(\) (returned|is) a coroutine.*await run\(view"):
        guarded(request_of(READER))
    assert (await run(type("V", (PlainMixin, Sync), {}).as_view(), request_of(READER))).content


async def test_a_decorated_view_called_by_a_coroutine_is_refused():
    guarded = DECORATORS["hidden-test"](view)
    with pytest.raises(BridgeError, match=r"The test .*<lambda> returned a coroutine"):
        guarded(request_of(READER))


@pytest.mark.parametrize("name", [name for name in MIXINS if name != "own"])
async def test_an_asynchronous_view_can_be_awaited_anywhere(name):
    guarded = type("V", (MIXINS[name], Async), {}).as_view()
    if "permission" not in name:
        assert (await guarded(request_of(READER))).status_code == ALLOWED
    assert isinstance(await guarded(request_of(NOBODY)), HttpResponseRedirect)


async def test_raise_exception():
    guarded = type("V", (AsyncTestMixin, Async), {"raise_exception": True}).as_view()
    with pytest.raises(PermissionDenied):
        await guarded(request_of(NOBODY))


def test_nothing_of_ours_stays_on_the_view():
    seen = []

    class V(PlainMixin, PermissionRequiredMixin, Sync):
        def has_permission(self):
            seen.append(self)
            return True

    V.as_view()(request_of(READER))
    assert set(vars(seen[0])) == {"args", "head", "kwargs", "request"}
