"""The SQL panel of django-debug-toolbar on pages of both colours, and its history of requests."""

import asyncio
import logging
import re

import site_of

site_of.configure(
    DEBUG=True,
    INSTALLED_APPS=["debug_toolbar", "django.contrib.staticfiles"],
    LOGGING={"version": 1, "loggers": {"django.request": {"level": "CRITICAL"}}},
    MIDDLEWARE=["debug_toolbar.middleware.DebugToolbarMiddleware", *site_of.MIDDLEWARE],
    DEBUG_TOOLBAR_CONFIG={
        "IS_RUNNING_TESTS": False,
        "SHOW_TOOLBAR_CALLBACK": lambda request: request.headers.get("x-toolbar") != "off",
    },
)

from debug_toolbar.store import get_store  # noqa: E402
from debug_toolbar.toolbar import debug_toolbar_urls  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import Value  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.template.response import TemplateResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author  # noqa: E402

WHO = [f"visitor{number}" for number in range(6)]
PAGE = "<html><body>%s</body></html>"
LIST = engines["django"].from_string(PAGE % "{% for author in authors %}{{ author }}{% endfor %}")


def marked(mark):
    """A query whose SQL tells who has asked for it."""
    return Author.objects.annotate(**{f"by_{mark}": Value(1)}).order_by("pk")


def sync(request, who):
    with transaction.atomic():
        names = [author.name for author in marked(f"{who}_1")]
    return HttpResponse(PAGE % [*names, marked(f"{who}_2").first().name])


async def coroutine(request, who):
    names = [author.name async for author in marked(f"{who}_1")]
    return HttpResponse(PAGE % [*names, (await marked(f"{who}_2").afirst()).name])


async def gathers(request, who):
    found = await asyncio.gather(marked(f"{who}_1").afirst(), marked(f"{who}_2").afirst())
    return HttpResponse(PAGE % [author.name for author in found])


async def cursor(request, who):
    rows = []
    for number in "12":
        async with connection.cursor() as opened:
            await opened.execute(f'SELECT name AS "by_{who}_{number}" FROM shop_author')
            rows += await opened.fetchall()
    return HttpResponse(PAGE % rows)


def template(request, who):
    marked(f"{who}_1").get(name="Lem")
    return TemplateResponse(request, LIST, {"authors": marked(f"{who}_2")})


async def data(request, who):
    return JsonResponse({"name": (await marked(f"{who}_1").afirst()).name})


async def fails(request, who):
    await marked(f"{who}_1").aget(name="nobody")


VIEWS = {"sync": sync, "coroutine": coroutine, "gathers": gathers, "template": template}
MORE = {"data": data, "fails": fails, "cursor": cursor}
urlpatterns = [path(f"{name}/<who>/", view) for name, view in {**VIEWS, **MORE}.items()]
urlpatterns += debug_toolbar_urls()


def recorded(response):
    """The marks of the SQL that the panel has of this response's request."""
    stats = get_store().panel(response.headers["djdt-request-id"], "SQLPanel")
    return [mark for query in stats["queries"] for mark in re.findall(r'"by_(\w+)"', query["sql"])]


async def pages():
    await Author.objects.acreate(name="Lem")
    client = AsyncClient()
    await client.aforce_login(await User.objects.acreate(username="ada"))
    for name in VIEWS:
        page = await asyncio.create_task(client.get(f"/{name}/ada/"))
        assert b"Lem" in page.content, name
        assert b'id="djDebug"' in page.content, name
        assert sorted(recorded(page)) == ["ada_1", "ada_2"], (name, recorded(page))
    answer = await client.get("/data/ada/")
    assert answer.json() == {"name": "Lem"}
    assert recorded(answer) == ["ada_1"]
    plain = await client.get("/coroutine/ada/", headers={"x-toolbar": "off"})
    assert b"djDebug" not in plain.content
    assert "djdt-request-id" not in plain.headers


async def panels():
    """What the toolbar's own page shows of a request: the button, and the statements."""
    await Author.objects.acreate(name="Lem")
    client = AsyncClient()
    for name in VIEWS:
        page = await client.get(f"/{name}/ada/")
        chosen = {"request_id": page.headers["djdt-request-id"]}
        side = (await client.get("/__debug__/history_sidebar/", chosen)).json()
        count = 3 if name == "sync" and connection.vendor == "sqlite" else 2  # and BEGIN
        assert f"{count} queries in" in side["SQLPanel"]["button"], side["SQLPanel"]["button"]
        panel = await client.get("/__debug__/render_panel/", {**chosen, "panel_id": "SQLPanel"})
        assert "by_ada_1" in panel.json()["content"]
    assert (await client.get("/__debug__/history_sidebar/", {"request_id": "0"})).json() == {}


async def errors():
    logging.disable(logging.ERROR)  # of the one that is raised here
    client = AsyncClient(raise_request_exception=False)
    response = await client.get("/fails/ada/")
    assert response.status_code == 500
    assert set(recorded(response)) == {"ada_1"}  # the page itself asks again for what it shows


async def gathered():
    """What `gather()` runs is in the panel, also where it is the first that the request asks."""
    await Author.objects.acreate(name="Lem")
    page = await asyncio.create_task(AsyncClient().get("/gathers/ada/"))
    assert sorted(recorded(page)) == ["ada_1", "ada_2"], recorded(page)


@site_of.needs_us  # stock Django has no cursors for coroutines
async def cursors():
    await Author.objects.acreate(name="Lem")
    page = await asyncio.create_task(AsyncClient().get("/cursor/ada/"))
    assert b"Lem" in page.content
    assert sorted(recorded(page)) == ["ada_1", "ada_2"], recorded(page)


@site_of.needs_us  # with stock Django all requests of AsyncClient share one connection
async def at_once():
    await Author.objects.acreate(name="Lem")
    clients = []
    for who in WHO:
        clients.append(AsyncClient())
        await clients[-1].aforce_login(await User.objects.acreate(username=who))
    for name in VIEWS:
        get_store().clear()
        urls = [f"/{name}/{who}/" for who in WHO]
        answers = await asyncio.gather(*(c.get(url) for c, url in zip(clients, urls, strict=True)))
        for who, answer in zip(WHO, answers, strict=True):
            assert sorted(recorded(answer)) == [f"{who}_1", f"{who}_2"], (name, recorded(answer))
        newest = {"request_id": answers[0].headers["djdt-request-id"]}
        refreshed = await clients[0].get("/__debug__/history_refresh/", newest)
        listed = refreshed.json()["requests"]
        assert {each["id"] for each in listed} == {a.headers["djdt-request-id"] for a in answers}
        found = [re.search(r"/\w+/visitor\d/", each["content"])[0] for each in listed]
        assert sorted(found) == urls


site_of.run(pages, panels, errors, gathered, cursors, at_once)
