"""Logging in and out, users and permissions, and authentication backends by the policy."""

import inspect
import threading

import django
import pytest
from asgi import Client
from django.contrib import auth
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    aauthenticate,
    aget_user,
    alogin,
    alogout,
    aupdate_session_auth_hash,
    authenticate,
    load_backend,
    login,
)
from django.contrib.auth.backends import BaseBackend, ModelBackend, RemoteUserBackend
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path
from django.utils.module_loading import import_string
from django.views.debug import technical_500_response
from hops import count_hops
from staying import own, urlconf

from django_aio import cooperative, run

MAIN = threading.main_thread()
MODEL = "django.contrib.auth.backends.ModelBackend"
FOREIGN = f"{__name__}.Foreign"
CALLS: list[tuple[str, bool]] = []


def note(name):
    CALLS.append((name, threading.current_thread() is MAIN))


class Foreign(ModelBackend):
    """A project's: whoever has the right token."""

    def authenticate(self, request, token=None):
        note("authenticate")
        if token == "stop":
            raise PermissionDenied
        if token == "canary":
            raise ArithmeticError("the backend failed")
        return User.objects.filter(username=token).first()

    def user_can_authenticate(self, user):
        note("user_can_authenticate")
        return super().user_can_authenticate(user)

    def _get_user_permissions(self, user_obj):
        note("_get_user_permissions")
        return super()._get_user_permissions(user_obj)

    async def ahas_perm(self, user_obj, perm, obj=None):
        note("ahas_perm")
        return perm == "testapp.wish"

    @cooperative
    def has_module_perms(self, user_obj, app_label):
        note("has_module_perms")
        return False

    @staticmethod
    def name():
        note("name")
        return "static"


class Simple(BaseBackend):
    """Synchronous throughout."""

    def get_user(self, user_id):
        note("get_user")
        return User.objects.filter(pk=user_id).first()

    def has_perm(self, user_obj, perm, obj=None):
        note("has_perm")
        return perm == "simple.permission"


@pytest.fixture(autouse=True)
def _fresh(db, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    CALLS.clear()


@pytest.fixture
def foreign():
    with override_settings(AUTHENTICATION_BACKENDS=[FOREIGN]):
        yield


def a_request():
    """A request with a session, as the middleware makes it."""
    request = HttpRequest()
    request.session = import_string("django.contrib.sessions.backends.db.SessionStore")()
    return request


async def reader():
    return await User.objects.acreate_user("reader", password="secret")


# Django's own, on the loop.


async def test_awaited():
    user = await reader()
    request = a_request()
    with count_hops() as hops:
        found = await aauthenticate(request, username="reader", password="secret")
        assert found == user
        assert await aauthenticate(request, username="reader", password="wrong") is None
        assert await aauthenticate(request, username="nobody", password="secret") is None
        await alogin(request, found)
        assert await aget_user(request) == user
        request.user = found

        async def auser():
            return found

        request.auser = auser
        await aupdate_session_auth_hash(request, found)
        assert await aget_user(request) == user
        assert not await found.ahas_perm("testapp.add_book")
        assert not await found.ahas_perms(["testapp.add_book"])
        assert not await found.ahas_module_perms("testapp")
        assert await found.aget_all_permissions() == set()
        await alogout(request)
        assert await aget_user(request) == AnonymousUser()
    assert not own(hops)


async def test_called_in_the_bridge():
    user = await reader()
    request = a_request()

    def use():
        found = authenticate(request, username="reader", password="secret")
        assert found == user
        assert authenticate(request, username="reader", password="wrong") is None
        login(request, found)
        assert auth.get_user(request) == user
        assert not found.has_perm("testapp.add_book")
        request.user = found
        auth.update_session_auth_hash(request, found)
        auth.logout(request)
        assert auth.get_user(request) == AnonymousUser()

    with count_hops() as hops:
        await run(use)
    assert not own(hops)


@cooperative
def who(request):
    """The lazy user, in a synchronous view on the loop."""
    return HttpResponse(request.user.get_username() or "anonymous")


async def awho(request):
    return HttpResponse((await request.auser()).get_username() or "anonymous")


@cooperative
def enter(request):
    user = authenticate(request, token=request.GET["token"])
    if user is None:
        return HttpResponse("refused")
    login(request, user)
    return HttpResponse(user.backend)


PAGES = urlconf(path("who/", who), path("awho/", awho), path("enter/", enter))
REMOTE = "django.contrib.auth.middleware.RemoteUserMiddleware"


async def log_in(client, user):
    def by_session():
        request = a_request()
        login(request, user, backend=auth.settings.AUTHENTICATION_BACKENDS[0])
        request.session.save()
        return request.session.session_key

    client.cookies["sessionid"] = await run(by_session)


@pytest.mark.parametrize("page", ["/who/", "/awho/"])
async def test_the_user_of_a_request(page):
    client = Client()
    with override_settings(ROOT_URLCONF=PAGES):
        assert (await client.get(page)).text == "anonymous"
        await log_in(client, await reader())
        with count_hops() as hops:
            assert (await client.get(page)).text == "reader"
        assert not own(hops)


@pytest.mark.parametrize("page", ["/who/", "/awho/"])
async def test_remote_users(settings_of_remote_users, page):
    client = settings_of_remote_users()
    header = {"remote-user": "remote"}
    if page == "/awho/" and django.VERSION < (6, 0):
        pytest.skip("Django 5.2's alogin() and alogout() leave request.auser() as it was")
    assert (await client.get(page, **header)).text == "remote"
    with count_hops() as hops:
        assert (await client.get(page, **header)).text == "remote"
        assert (await client.get(page)).text == "anonymous"
    assert not own(hops)
    assert await User.objects.filter(username="remote").acount() == 1


@pytest.fixture
def settings_of_remote_users():
    with override_settings(
        ROOT_URLCONF=PAGES,
        MIDDLEWARE=[*auth.settings.MIDDLEWARE, REMOTE],
        AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"],
    ):
        yield Client


# A project's backends.


async def test_a_foreign_backend_authenticates_in_a_thread(foreign):
    user = await reader()
    client = Client()
    with override_settings(ROOT_URLCONF=PAGES):
        assert (await client.get("/enter/?token=nobody")).text == "refused"
        assert (await client.get("/enter/?token=stop")).text == "refused"
        assert (await client.get("/enter/?token=reader")).text == FOREIGN
        assert set(CALLS) == {("authenticate", False)}
        CALLS.clear()
        # Django's get_user() runs on the loop, what it calls of the project's in a thread.
        with count_hops() as hops:
            assert (await client.get("/who/")).text == "reader"
        assert CALLS == [("user_can_authenticate", False)]
        assert len(own(hops).work) == 1
    session = await import_session(client)
    assert session[BACKEND_SESSION_KEY] == FOREIGN
    assert user.pk


async def import_session(client):
    store = import_string("django.contrib.sessions.backends.db.SessionStore")
    return dict(await store(client.cookies["sessionid"].value).aitems())


async def test_permissions_of_a_foreign_backend(foreign):
    user = await reader()
    assert not await run(user.has_perm, "testapp.add_book")
    assert await run(user.has_module_perms, "testapp") is False
    assert await user.ahas_perm("testapp.wish")
    assert CALLS == [
        ("_get_user_permissions", False),
        ("has_module_perms", True),  # marked
        ("ahas_perm", True),  # a coroutine function
    ]


async def test_a_backend_without_awaitable_methods():
    user = await reader()
    with override_settings(AUTHENTICATION_BACKENDS=[f"{__name__}.Simple"]):
        assert await run(user.has_perm, "simple.permission")
        backend = await run(load_backend, f"{__name__}.Simple")
        assert await run(backend.get_user, user.pk) == user
        assert await backend.aget_user(user.pk) == user
    assert CALLS == [("has_perm", False), ("get_user", False), ("get_user", False)]


async def test_a_foreign_backend_keeps_its_identity(foreign):
    backend = await run(load_backend, FOREIGN)
    assert isinstance(backend, (Foreign, ModelBackend))
    assert not isinstance(backend, RemoteUserBackend)
    assert (type(backend).__qualname__, type(backend).__module__) == ("Foreign", __name__)
    ours, theirs = (inspect.signature(cls().authenticate) for cls in (type(backend), Foreign))
    assert ours == theirs
    assert await run(backend.name) == "static"
    assert CALLS == [("name", False)]
    # Credentials that it does not know are not for it.
    assert await run(authenticate, username="reader", password="secret") is None
    assert CALLS == [("name", False)]


async def test_a_foreign_backend_on_the_list(foreign):
    await reader()
    with override_settings(AIO={"COOPERATIVE": [__name__]}):
        assert await run(authenticate, token="reader")
        assert type(await run(load_backend, FOREIGN)) is Foreign
    assert CALLS == [("authenticate", True)]


async def test_its_transaction_is_the_callers(foreign):
    from django.db import transaction

    def within():
        with transaction.atomic():
            User.objects.create(username="unseen")
            found = authenticate(token="unseen")
            transaction.set_rollback(True)
            return found

    assert (await run(within)).username == "unseen"
    assert not await User.objects.filter(username="unseen").aexists()


def test_outside_the_bridge_nothing_changes(foreign):
    User.objects.create(username="reader")
    assert type(load_backend(FOREIGN)) is Foreign
    with count_hops() as hops:
        assert authenticate(token="reader")
    assert not hops


async def fails_on_the_loop():
    await aauthenticate(username="reader", password="canary")


async def fails_in_a_thread():
    await run(lambda: authenticate(token="canary"))


@pytest.mark.parametrize(
    ("fails", "backend", "module"),
    [(fails_on_the_loop, MODEL, "awaiting.py"), (fails_in_a_thread, FOREIGN, "classes.py")],
)
async def test_error_reports_do_not_show_passwords(fails, backend, module, monkeypatch):
    """What stands between Django's frames and the backend's hides its arguments."""
    await reader()
    monkeypatch.setattr(ModelBackend, "user_can_authenticate", None)  # cannot be called
    monkeypatch.setattr(User, "check_password", lambda self, password: True)
    monkeypatch.setattr(User, "acheck_password", acceptance)
    with override_settings(AUTHENTICATION_BACKENDS=[backend]):
        with pytest.raises((TypeError, ArithmeticError)) as caught:
            await fails()
        error = caught.value
        request = RequestFactory().get("/")
        report = technical_500_response(request, type(error), error, error.__traceback__)
    frames = report.content.decode().split('<li class="frame')
    ours = [frame for frame in frames if "django_aio" in frame[:300]]
    assert any(module in frame[:300] for frame in ours)
    assert not [frame for frame in ours if "&#x27;canary&#x27;" in frame]
    # They would be seen: the test's own frames do not hide anything.
    assert any("canary" in frame for frame in frames)


async def acceptance(self, password):
    return True
