"""`request.user` and `await request.auser()`: one lookup."""

import pytest
from django.contrib import auth
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import User
from django.http import HttpRequest

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
    request.session = {}
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


def test_plain_code_is_as_before(request_, lookups):
    assert request_.user.username == request_.user.username == "reader"
    assert lookups == ["get_user"]
