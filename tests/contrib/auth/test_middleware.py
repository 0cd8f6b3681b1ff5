"""`request.user` and `await request.auser()`: one lookup, and one user."""

import pytest
from django.contrib import auth
from django.contrib.auth import SESSION_KEY, alogin, alogout, login, logout
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import HttpRequest
from django.test import RequestFactory

from django_aio import run


@pytest.fixture
def lookups(monkeypatch):
    """What was asked for; each lookup finds another object."""
    asked = []

    def get_user(request):
        asked.append("get_user")
        return User(pk=1, username="reader")

    async def aget_user(request):
        asked.append("aget_user")
        return User(pk=1, username="reader")

    monkeypatch.setattr(auth, "get_user", get_user)
    monkeypatch.setattr(auth, "aget_user", aget_user)
    return asked


@pytest.fixture
def request_():
    request = HttpRequest()
    request.session = SessionStore()
    request.session._session_cache = {SESSION_KEY: "1"}
    AuthenticationMiddleware(lambda request: None).process_request(request)
    return request


async def test_what_was_awaited_is_not_looked_up_again(request_, lookups):
    user = await request_.auser()
    user.first_name = "set on the one"
    assert await run(lambda: request_.user.first_name) == "set on the one"
    assert lookups == ["aget_user"]


async def test_what_was_used_is_not_awaited_again(request_, lookups):
    assert await run(lambda: request_.user.username) == "reader"
    assert await request_.auser() == request_.user
    assert await request_.auser() is await request_.auser()
    assert lookups == ["get_user"]


ENDS = {
    "flushed": (lambda session: session.flush(), "AnonymousUser"),
    "another's": (lambda session: session.__setitem__(SESSION_KEY, "2"), "reader 2"),
}


@pytest.mark.parametrize("first", ["user", "auser"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_session_that_has_changed_is_looked_at_again(request_, monkeypatch, end, first):
    """As in stock Django, where each spelling looks for itself."""

    def get_user(request):
        key = request.session.get(SESSION_KEY)
        return User(pk=key, username=f"reader {key}") if key else AnonymousUser()

    async def aget_user(request):
        return get_user(request)

    monkeypatch.setattr(auth, "get_user", get_user)
    monkeypatch.setattr(auth, "aget_user", aget_user)
    change, then = ENDS[end]
    other = "auser" if first == "user" else "user"
    assert await read(request_, first) == "reader 1"
    await run(change, request_.session)
    assert await read(request_, other) == then


def test_plain_code_is_as_before(request_, lookups):
    assert request_.user.username == request_.user.username == "reader"
    assert lookups == ["get_user"]


BACKEND = "django.contrib.auth.backends.ModelBackend"


async def read(request, spelling):
    user = await (run(lambda: request.user) if spelling == "user" else request.auser())
    return await run(str, user)


CHANGES = {
    "login": lambda request, user: run(login, request, user, BACKEND),
    "alogin": lambda request, user: alogin(request, user, backend=BACKEND),
    "logout": lambda request, user: run(logout, request),
    "alogout": lambda request, user: alogout(request),
}


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("somebody", [False, True])
@pytest.mark.parametrize("before", [(), ("user",), ("auser",), ("user", "auser")])
@pytest.mark.parametrize("change", CHANGES)
async def test_both_spellings_know_who_it_is_now(change, before, somebody):
    """Never who has logged out. Stock Django's table is right on 6.1, and half wrong before."""
    ann, bob = [await User.objects.acreate_user(name) for name in ("ann", "bob")]
    expected = "bob" if change in ("login", "alogin") else "AnonymousUser"
    for first, second in (("user", "auser"), ("auser", "user")):
        request = RequestFactory().get("/")
        request.session = SessionStore()
        if somebody:
            other = RequestFactory().get("/")
            other.session = request.session
            await alogin(other, ann, backend=BACKEND)
        await run(AuthenticationMiddleware(lambda request: None).process_request, request)
        for spelling in before:
            assert await read(request, spelling) == ("ann" if somebody else "AnonymousUser")
        await CHANGES[change](request, bob)
        assert [await read(request, each) for each in (first, second)] == [expected] * 2
        await alogout(request)
        assert [await read(request, each) for each in (first, second)] == ["AnonymousUser"] * 2
