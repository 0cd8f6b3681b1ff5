"""The admin with a coroutine function in the place of every method answers as without."""

import asyncio
from urllib.parse import urlencode

import pytest
from asgi import Client
from django.contrib.auth.models import User
from django.test import Client as DjangoClient
from django.test import override_settings

from django_aio import run

from . import pages
from .pages import PAGES, TOKEN, described, hooks_of, prepare, settings_of, site_of


@pytest.fixture(scope="module")
def seen():
    return set()


@pytest.fixture(scope="module")
def sites(seen):
    """The site as it is, and that of coroutine functions."""
    return site_of(), site_of(seen)


@pytest.fixture
def user(db):
    return User.objects.create_superuser("admin", password="secret", pk=1)


def answer(site, page, user):
    """What a page answers in a thread where no loop runs."""
    url, posted = PAGES[page]
    prepare()
    with override_settings(**settings_of(site)):
        client = DjangoClient()
        client.force_login(user)
        response = client.get(url) if posted is None else client.post(url, posted)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return described(response.status_code, headers, response.content.decode())


async def aanswer(site, page, user, listed):
    """What it answers on a loop."""
    url, posted = PAGES[page]
    await run(prepare)
    with override_settings(
        **settings_of(site), AIO={"COOPERATIVE": [pages.__name__] if listed else []}
    ):
        client = await logged_in(user)
        if posted is None:
            response = await client.get(url)
        else:
            body = urlencode(posted, doseq=True).encode()
            kind = {"content-type": "application/x-www-form-urlencoded", "x-csrftoken": TOKEN}
            response = await client.request("POST", url, body, kind)
        return described(response.status, response.headers, response.text)


async def logged_in(user):
    browser = DjangoClient()
    await run(browser.force_login, user)
    client = Client()
    client.cookies.update(browser.cookies)
    client.cookies["csrftoken"] = TOKEN
    return client


@pytest.mark.parametrize("page", PAGES)
def test_pages(page, sites, user):
    plain, asynchronous = sites
    expected = answer(plain, page, user)
    assert expected[0] in (200, 302, 404), page
    assert answer(asynchronous, page, user) == expected
    for listed in (True, False):
        assert asyncio.run(aanswer(asynchronous, page, user, listed)) == expected, listed


def test_nearly_all_methods_are_called_by_these_pages(user):
    """A test of what the one above tests."""
    called = set()
    site = site_of(called)
    for page in PAGES:
        answer(site, page, user)
    known = {f"{cls.__name__}.{name}" for cls in pages.CLASSES for name in hooks_of(cls)}
    unreached = {name.partition(".")[2] for name in known} - {
        name.partition(".")[2] for name in called
    }
    assert not unreached - pages.UNREACHED, sorted(unreached)
