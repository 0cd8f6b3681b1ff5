"""The table of docs/admin.rst, measured: what a page of the admin hands to a thread."""

from urllib.parse import urlencode

import pytest
from asgi import Client
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client as DjangoClient
from django.test import override_settings
from doc_tables import documented
from hops import count_hops
from staying import on_the_loop, own

from django_aio import run

from . import pages
from .pages import PAGES, TOKEN, awaited, prepare, selected, settings_of, site_of, tally

LOGIN = {"username": "admin", "password": "secret", "next": "/admin/"}
ROWS = {
    **{name: page for name, page in PAGES.items() if name != "no such page"},
    "action, a coroutine function": (pages.AUTHORS, {"action": "atally", **selected}),
    "login": ("/admin/login/", LOGIN),
}
TABLE = documented("admin.rst", "hops-admin")


def test_the_table_has_the_rows_that_are_measured():
    assert list(TABLE) == list(ROWS)


@pytest.fixture
def user(persistent):
    user = User.objects.create_superuser("admin", password="secret", pk=1)
    connections.close_all()
    return user


async def ask(user, row):
    url, posted = ROWS[row]
    client, browser = Client(), DjangoClient()
    if row != "login":
        await run(browser.force_login, user)
    client.cookies.update(browser.cookies)
    client.cookies["csrftoken"] = TOKEN
    await run(prepare)
    kind = {"content-type": "application/x-www-form-urlencoded", "x-csrftoken": TOKEN}
    body = urlencode(posted or {}, doseq=True).encode()
    with count_hops() as hops:
        response = await client.request("GET" if posted is None else "POST", url, body, kind)
    assert response.status in (200, 302)
    return own(hops.work)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize("row", ROWS)
async def test_the_table_is_right(row, listed, user):
    site = site_of()
    site.add_action(awaited(tally), "atally")
    trusted = {"COOPERATIVE": [pages.__name__] if listed else []}
    with override_settings(**settings_of(site), AIO=trusted):
        await ask(user, row)
        hops = await ask(user, row)
    assert len(hops) == TABLE[row][0 if listed else 1], "\n".join(hops)


@pytest.mark.parametrize("row", ["change list", "add, with inlines", "delete"])
async def test_nothing_blocks(row, user):
    with override_settings(**settings_of(site_of()), AIO={"COOPERATIVE": [pages.__name__]}):
        await ask(user, row)
        with on_the_loop():
            await ask(user, row)
