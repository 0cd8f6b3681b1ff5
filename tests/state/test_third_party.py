"""Code that is not on the list: this module."""

import pytest
from django.contrib import auth
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from .tables import assert_same, documented, hops_of

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
