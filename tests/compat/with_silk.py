"""Requests, SQL and profiles that django-silk records of views of both colours, and its pages."""

import asyncio
import re

import site_of

site_of.configure(
    INSTALLED_APPS=["silk", "django.contrib.staticfiles"],
    LOGGING={"version": 1, "loggers": {"django.request": {"level": "CRITICAL"}}},
    LOGIN_URL="/login/",
    MIDDLEWARE=[*site_of.MIDDLEWARE, "silk.middleware.SilkyMiddleware"],
    SILKY_AUTHENTICATION=True,
    SILKY_AUTHORISATION=True,
    SILKY_META=True,
)

from django.contrib.auth.models import User  # noqa: E402
from django.db import transaction  # noqa: E402
from django.db.models import Value  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import include, path  # noqa: E402
from shop.models import Author  # noqa: E402
from silk.models import Profile, Request, SQLQuery  # noqa: E402
from silk.profiling.profiler import silk_profile  # noqa: E402

WHO = [f"visitor{number}" for number in range(6)]


def marked(mark):
    """A query whose SQL tells who has asked for it."""
    return Author.objects.annotate(**{f"by_{mark}": Value(1)}).order_by("pk")


def sync(request, who):
    with silk_profile(name=f"profile of {who}"), transaction.atomic():
        names = [author.name for author in marked(f"{who}_1")]
    return JsonResponse({"names": [*names, marked(f"{who}_2").get(name="Lem").name]})


async def coroutine(request, who):
    names = [author.name async for author in marked(f"{who}_1")]
    return JsonResponse({"names": [*names, (await marked(f"{who}_2").afirst()).name]})


async def gathers(request, who):
    found = await asyncio.gather(marked(f"{who}_1").afirst(), marked(f"{who}_2").afirst())
    return JsonResponse({"names": [author.name for author in found]})


def fails(request, who):
    """Its transaction is rolled back, and what silk has of it is not."""
    with transaction.atomic():
        Author.objects.create(name="Pratchett")
        marked(f"{who}_1").first()
        marked(f"{who}_2").get(name="nobody")


VIEWS = {"sync": sync, "coroutine": coroutine, "gathers": gathers}
urlpatterns = [path(f"{name}/<who>/", view) for name, view in {**VIEWS, "fails": fails}.items()]
urlpatterns += [path("silk/", include("silk.urls", namespace="silk"))]


async def visit(name, who):
    """A request in a task of its own, as with a server."""
    client = AsyncClient(raise_request_exception=False)
    return await asyncio.create_task(client.get(f"/{name}/{who}/"))


async def check_recorded(name, who, status=200):
    record = await Request.objects.select_related("response").aget(path=f"/{name}/{who}/")
    assert record.response.status_code == status
    queries = SQLQuery.objects.filter(request=record).values_list("query", flat=True)
    marks = [mark async for sql in queries for mark in re.findall(r'"by_(\w+)"', sql)]
    assert sorted(marks) == [f"{who}_1", f"{who}_2"], (name, marks)
    return record


async def profiles_and_errors():
    await Author.objects.acreate(name="Lem")
    assert (await visit("sync", "ada")).json() == {"names": ["Lem", "Lem"]}
    record = await check_recorded("sync", "ada")
    profile = await Profile.objects.aget(request=record)
    assert profile.name == "profile of ada"
    assert "by_ada_1" in (await profile.queries.aget()).query
    assert (await visit("fails", "ada")).status_code == 500
    await check_recorded("fails", "ada", 500)
    assert [author.name async for author in Author.objects.all()] == ["Lem"]


async def pages():
    await Author.objects.acreate(name="Lem")
    await visit("sync", "ada")
    record = await Request.objects.aget(path="/sync/ada/")
    staff, nobody = AsyncClient(), AsyncClient()
    await staff.aforce_login(await User.objects.acreate(username="grace", is_staff=True))
    await nobody.aforce_login(await User.objects.acreate(username="ada"))
    for url in ("/silk/", "/silk/requests/", f"/silk/request/{record.pk}/"):
        assert b"/sync/ada/" in (await staff.get(url)).content, url
        assert (await nobody.get(url)).status_code == 403
        assert (await AsyncClient().get(url)).url == f"/login/?next={url}"
    sql = (await staff.get(f"/silk/request/{record.pk}/sql/")).content
    assert sql.count(b"shop_author") >= 2
    assert await Request.objects.acount() == 1  # its own pages are not recorded


async def sync_views_at_once():
    await Author.objects.acreate(name="Lem")
    answers = await asyncio.gather(*(visit("sync", who) for who in WHO))
    assert {answer.status_code for answer in answers} == {200}
    for who in WHO:
        await check_recorded("sync", who)


async def coroutine_views():
    await Author.objects.acreate(name="Lem")
    for name in ("coroutine", "gathers"):
        assert (await visit(name, "ada")).json() == {"names": ["Lem", "Lem"]}
        await check_recorded(name, "ada")


async def coroutine_views_at_once():
    await Author.objects.acreate(name="Lem")
    for name in ("coroutine", "gathers"):
        answers = await asyncio.gather(*(visit(name, who) for who in WHO))
        assert {answer.status_code for answer in answers} == {200}
        for who in WHO:
            await check_recorded(name, who)


site_of.run(
    profiles_and_errors, pages, sync_views_at_once, coroutine_views, coroutine_views_at_once
)
