"""Transactions, SQL spans and errors that Elastic APM's Django app records, per request."""

import asyncio
import re

import elasticapm
import site_of
from elasticapm.conf.constants import ERROR, SPAN, TRANSACTION
from elasticapm.transport.base import Transport


class Kept(Transport):
    """Keeps what would be sent."""

    events: list = []

    def start_thread(self, pid=None):
        pass

    def queue(self, event_type, data, flush=False):
        self.events.append((event_type, data))


MIDDLEWARE = ["elasticapm.contrib.django.middleware.TracingMiddleware", *site_of.MIDDLEWARE]
site_of.configure(
    INSTALLED_APPS=["elasticapm.contrib.django"],
    MIDDLEWARE=[*MIDDLEWARE, "elasticapm.contrib.django.middleware.Catch404Middleware"],
    ELASTIC_APM={
        "SERVICE_NAME": "shop",
        "TRANSPORT_CLASS": "__main__.Kept",
        "DJANGO_TRANSACTION_NAME_FROM_ROUTE": True,
        "CENTRAL_CONFIG": False,
        "CLOUD_PROVIDER": False,
        "METRICS_INTERVAL": "0ms",
        "SPAN_COMPRESSION_ENABLED": False,
    },
)

from django.contrib.auth.models import User  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import Value  # noqa: E402
from django.http import Http404, JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from elasticapm import async_capture_span, capture_span  # noqa: E402
from shop.models import Author  # noqa: E402

WHO = [f"visitor{number}" for number in range(8)]


def marked(mark):
    """A query whose SQL tells in which span it belongs."""
    return Author.objects.annotate(**{f"in_{mark}": Value(1)}).order_by("pk")


def sync(request, who):
    elasticapm.label(who=who, user=request.user.username)
    with capture_span(f"{who}_1"):
        names = [author.name for author in marked(f"{who}_1")]
    with capture_span(f"{who}_2"), transaction.atomic():
        marked(f"{who}_2").first()
    return JsonResponse({"names": names})


async def coroutine(request, who):
    elasticapm.label(who=who, user=(await request.auser()).username)
    async with async_capture_span(f"{who}_1"):
        names = [author.name async for author in marked(f"{who}_1")]
    async with async_capture_span(f"{who}_2"):
        await marked(f"{who}_2").afirst()
    return JsonResponse({"names": names})


async def gathers(request, who):
    elasticapm.label(who=who, user=(await request.auser()).username)

    async def first(mark):
        async with async_capture_span(mark):
            return await marked(mark).afirst()

    found = await asyncio.gather(first(f"{who}_1"), first(f"{who}_2"))
    return JsonResponse({"names": [author.name for author in found]})


async def atomically(request, who):
    async with transaction.atomic():
        return await gathers(request, who)


def fails(request, who):
    elasticapm.label(who=who)
    raise ValueError(request.user.username)


async def fails_too(request, who):
    elasticapm.label(who=who)
    raise ValueError((await request.auser()).username)


async def absent(request, who):
    raise Http404


VIEWS = {"sync": sync, "coroutine": coroutine, "gathers": gathers}
MORE = {"atomically": atomically, "fails": fails, "fails-too": fails_too, "absent": absent}
urlpatterns = [path(f"{name}/<who>/", view) for name, view in {**VIEWS, **MORE}.items()]


async def visit_all(name, status=200):
    """Many users at once. Returns the transactions, by the visitor."""
    clients = []
    for who in WHO:
        user, _ = await User.objects.aget_or_create(username=who)
        clients.append(AsyncClient(raise_request_exception=False))
        await clients[-1].aforce_login(user)
    Kept.events.clear()
    urls = [f"/{name}/{who}/" for who in WHO]
    answers = await asyncio.gather(*(c.get(url) for c, url in zip(clients, urls, strict=True)))
    assert {answer.status_code for answer in answers} == {status}
    found = {each["context"]["request"]["url"]["pathname"]: each for each in events(TRANSACTION)}
    assert sorted(found) == urls
    assert len(events(TRANSACTION)) == len(urls)
    for each in found.values():
        assert each["name"] == f"GET {name}/<who>/"
        assert each["result"] == f"HTTP {status // 100}xx"
    return {url.split("/")[2]: each for url, each in found.items()}


def events(kind):
    return [data for event_type, data in Kept.events if event_type == kind]


def check_views(transactions):
    """What the views have said of their visitors, and the spans that they have opened."""
    for who, each in transactions.items():
        assert each["context"]["tags"] == {"who": who, "user": who}
        assert each["context"]["user"]["username"] == who
        inside = [span for span in events(SPAN) if span["transaction_id"] == each["id"]]
        named = {s["name"]: s for s in inside if s["name"].startswith("visitor")}
        assert sorted(named) == [f"{who}_1", f"{who}_2"], named
        assert {span["parent_id"] for span in named.values()} == {each["id"]}
        assert {span["trace_id"] for span in inside} == {each["trace_id"]}


def check_statements():
    """Each statement is recorded once, in the span that was open where it was run."""
    spans = {span["id"]: span for span in events(SPAN)}
    found = {}
    for span in spans.values():
        statement = span.get("context", {}).get("db", {}).get("statement", "")
        for mark in re.findall(r'"in_(\w+)"', statement):
            found.setdefault(mark, []).append(span)
    assert sorted(found) == sorted(f"{who}_{n}" for who in WHO for n in "12"), sorted(found)
    for mark, (span,) in found.items():
        assert spans[span["parent_id"]]["name"] == mark
        assert span["subtype"] == connection.vendor


async def requests_at_once():
    await Author.objects.acreate(name="Lem")
    for name in VIEWS:
        check_views(await visit_all(name))


async def errors():
    for name in ("fails", "fails-too"):
        transactions = await visit_all(name, 500)
        assert len(events(ERROR)) == len(WHO)
        for error in events(ERROR):
            who = error["exception"]["message"].removeprefix("ValueError: ")
            assert error["transaction_id"] == transactions[who]["id"]
            assert error["context"]["user"]["username"] == who
            assert error["context"]["tags"] == {"who": who}
            assert error["culprit"] == f"__main__.{name.replace('-', '_')}", error["culprit"]
    await visit_all("absent", 404)
    assert len(events(ERROR)) == len(WHO)
    assert all("Page Not Found" in error["log"]["message"] for error in events(ERROR))


async def statements_at_once():
    await Author.objects.acreate(name="Lem")
    for name in VIEWS:
        await visit_all(name)
        check_statements()


@site_of.needs_us
async def statements_of_a_transaction():
    await Author.objects.acreate(name="Lem")
    check_views(await visit_all("atomically"))
    check_statements()


site_of.run(requests_at_once, errors, statements_at_once, statements_of_a_transaction)
