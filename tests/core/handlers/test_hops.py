"""Requests through the default middleware stay on the loop: no hand-over, no blocking call."""

import pytest
from asgi import Client
from blockbuster import BlockBuster
from django.conf import settings
from django.contrib.auth.models import User
from hops import count_hops
from testapp.models import Author, Book

from django_aio import run

PAGES = ["/json/", "/row/{pk}/", "/template/", "/trusted/", "/form/", "/stream/"]


async def prepare():
    """Data, a logged-in client, and every cache (templates, URLconf, connection) warm."""
    author = await Author.objects.acreate(name="Jane Austen")
    for number in range(3):
        await Book.objects.acreate(title=f"Book {number}", author=author)
    user = await User.objects.acreate_user("reader", password="secret")
    client = Client()
    await run(log_in, client, user)
    for page in PAGES:
        assert (await client.get(page.format(pk=author.pk))).status == 200, page
    response = await client.post("/form/", {"name": "First Author", "born": 1800})
    assert response.status == 302
    return client, author


def log_in(client, user):
    from django.test import Client as DjangoClient

    browser = DjangoClient()
    browser.force_login(user)
    client.cookies.update(browser.cookies)


def unexpected(hops):
    """What may not happen: anything on PostgreSQL, all but aiosqlite's own thread on SQLite."""
    own = hops.by("aiosqlite") if settings.TEST_DB == "sqlite" else []
    return [hop for hop in hops if hop not in own]


@pytest.fixture
def persistent(db, monkeypatch):
    """Connections live longer than a request, as on a site: connecting is not what is tested."""
    from django.db import connections

    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)


async def test_no_hops(persistent):
    client, author = await prepare()
    with count_hops() as hops:
        for page in PAGES:
            response = await client.get(page.format(pk=author.pk))
            assert response.status == 200, page
        response = await client.post("/form/", {"name": "Emma", "born": 1815})
        assert response.status == 302
        assert (await client.post("/form/", {"name": "Emma", "born": 1815})).status == 200
    assert not unexpected(hops)
    assert await Author.objects.filter(name="Emma").aexists()


async def test_an_unlisted_view_is_counted(persistent):
    """The counter sees what it is there to see."""
    client, _ = await prepare()
    with count_hops() as hops:
        assert (await client.get("/untrusted/")).text == "False"
    assert unexpected(hops)


async def test_nothing_blocks(persistent):
    client, author = await prepare()
    buster = BlockBuster()
    buster.activate()
    try:
        for page in PAGES:
            assert (await client.get(page.format(pk=author.pk))).status == 200, page
        response = await client.post("/form/", {"name": "Persuasion", "born": 1817})
        assert response.status == 302
    finally:
        buster.deactivate()


async def test_blocking_is_found(persistent):
    """The detector sees what it is there to see."""
    import time

    from blockbuster import BlockingError

    buster = BlockBuster()
    buster.activate()
    try:
        with pytest.raises(BlockingError):
            await run(time.sleep, 0.001)
    finally:
        buster.deactivate()
