"""Reads the tables of docs/state.rst and measures their figures."""

import asyncio
import functools
import itertools

import doc_tables
from asgi import Client
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.http import HttpRequest
from django.test import override_settings
from django.urls import path
from hops import count_hops
from staying import own, urlconf
from testapp.models import Author

from django_aio import run

CHEAP = "django.contrib.auth.hashers.MD5PasswordHasher"
DEFAULT = "django.contrib.auth.hashers.PBKDF2PasswordHasher"
number = itertools.count(1)


documented = functools.partial(doc_tables.documented, "state.rst")


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


def colours(names):
    """The row of a method that has two colours, and of one that has one."""
    return {
        f"`{name}()`, `{twin}()`" if twin else f"`{name}()`": (name, twin) for name, twin in names
    }


async def hop():
    await asyncio.to_thread(nothing)


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


def new_author():
    return Author(name=f"author {next(number)}")


def stored_author():
    author = new_author()
    Author.objects.bulk_create([author])
    return author
