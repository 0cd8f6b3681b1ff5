"""Counters of django-prometheus: requests, its database and cache engines, models, scraped."""

import asyncio
import os
import tempfile

import site_of

VENDOR = "postgresql" if "postgresql" in site_of.database()["ENGINE"] else "sqlite"
# With a pool it counts more at each lease, in stock Django too: it wraps the cursors once again.
POOL = bool(os.environ.get("POOL"))
files = tempfile.TemporaryDirectory()
database = site_of.database()
ENGINE = database["ENGINE"].replace("django.db", "django_prometheus.db")
site_of.configure(
    INSTALLED_APPS=["django_prometheus"],
    CACHES={
        "default": {"BACKEND": "django_prometheus.cache.backends.locmem.LocMemCache"},
        "files": {
            "BACKEND": "django_prometheus.cache.backends.filebased.FileBasedCache",
            "LOCATION": files.name,
        },
    },
    DATABASES={"default": {**database, "ENGINE": ENGINE}},
    LOGGING={"version": 1, "loggers": {"django.request": {"level": "CRITICAL"}}},
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        *site_of.MIDDLEWARE,
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
)

from django.core.cache import caches  # noqa: E402
from django.db import models, transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.template.response import TemplateResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import include, path  # noqa: E402
from django_prometheus.models import ExportModelOperationsMixin  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from shop.models import Author, Book  # noqa: E402

LIST = engines["django"].from_string("{% for author in authors %}{{ author }}{% endfor %}")


class Visit(ExportModelOperationsMixin("visit"), models.Model):
    who = models.CharField(max_length=20)

    class Meta:
        app_label = "shop"


def sync(request):
    return JsonResponse({"counts": [Author.objects.count(), Book.objects.count()]})


async def coroutine(request):
    return JsonResponse({"counts": [await Author.objects.acount(), await Book.objects.acount()]})


async def gathers(request):
    counts = await asyncio.gather(Author.objects.acount(), Book.objects.acount())
    return JsonResponse({"counts": counts})


def template(request):
    return TemplateResponse(request, LIST, {"authors": Author.objects.all()})


async def template_too(request):
    return TemplateResponse(request, LIST, {"authors": Author.objects.all()})


def fails(request):
    raise ValueError("by intention")


async def fails_too(request):
    raise ValueError("by intention")


def broken_sql(request):
    with transaction.atomic():
        return HttpResponse(Author.objects.extra(where=["nowhere = 1"]).count())


async def broken_sql_too(request):
    return HttpResponse(await Author.objects.extra(where=["nowhere = 1"]).acount())


def cached(request, alias, key):
    cache = caches[alias]
    if (value := cache.get(key)) is None:
        cache.set(key, value := "new")
    return JsonResponse({"value": value})


async def cached_too(request, alias, key):
    cache = caches[alias]
    if (value := await cache.aget(key)) is None:
        await cache.aset(key, value := "new")
    return JsonResponse({"value": value})


async def visits(request):
    visit = await Visit.objects.acreate(who="ada")
    visit.who = "grace"
    await visit.asave()
    await visit.adelete()
    return HttpResponse("done")


QUERIES = {"sync": sync, "coroutine": coroutine, "gathers": gathers}
VIEWS = {**QUERIES, "template": template, "template_too": template_too, "visits": visits}
FAILING = {"fails": fails, "fails_too": fails_too}
BROKEN = {"broken_sql": broken_sql, "broken_sql_too": broken_sql_too}
urlpatterns = [path(f"{n}/", v, name=n) for n, v in {**VIEWS, **FAILING, **BROKEN}.items()]
urlpatterns += [
    path("cached/<alias>/<key>/", cached),
    path("cached_too/<alias>/<key>/", cached_too),
    path("", include("django_prometheus.urls")),
]


async def scrape():
    """What the page says now."""
    page = await asyncio.create_task(AsyncClient().get("/metrics"))
    found = {}
    for family in text_string_to_metric_families(page.content.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[sample.name.removeprefix("django_"), labels] = sample.value
    return found


async def growth(url, times=8):
    """What many requests at once have added."""
    before = await scrape()
    client = AsyncClient(raise_request_exception=False)
    answers = await asyncio.gather(*(client.get(url) for _ in range(times)))
    after = await scrape()
    return answers, lambda n, labels="": after.get((n, labels), 0) - before.get((n, labels), 0)


async def requests():
    await Author.objects.acreate(name="Lem")
    for name in {**VIEWS, **FAILING}:
        answers, grown = await growth(f"/{name}/")
        status = 500 if name in FAILING else 200
        assert {answer.status_code for answer in answers} == {status}
        by_view = f"method=GET,status={status},view={name}"
        assert grown("http_responses_total_by_status_view_method_total", by_view) == 8, name
        assert grown(
            "http_requests_latency_seconds_by_view_method_count", f"method=GET,view={name}"
        )
        assert grown("http_requests_before_middlewares_total") == 9  # and that of the first scrape
        errors = 8 if name in FAILING else 0
        assert grown("http_exceptions_total_by_type_total", "type=ValueError") == errors
        assert grown("http_exceptions_total_by_view_total", f"view={name}") == errors
        labels = f"templatename={LIST}"
        pages = 8 if "template" in name else 0
        assert grown("http_responses_total_by_templatename_total", labels) == pages
    _, grown = await growth("/visits/")
    for operation in ("inserts", "updates", "deletes"):
        assert grown(f"model_{operation}_total", "model=visit") == 8, operation


async def database_engine():
    labels = f"alias=default,vendor={VENDOR}"
    for name in QUERIES:
        answers, grown = await growth(f"/{name}/")
        assert [answer.json()["counts"] for answer in answers] == [[0, 0]] * 8
        count, new = (grown(f"db_{n}_total", labels) for n in ("execute", "new_connections"))
        zones = new if VENDOR == "postgresql" else 0  # a new connection may set its time zone
        assert count >= 16, (name, count)
        assert POOL or count <= 16 + zones, (name, count, new)
        timed = grown("db_query_duration_seconds_count", labels)
        assert timed == count or (POOL and timed >= 16), (name, timed, count)
        assert grown("db_new_connection_errors_total", labels) == 0
    for name in BROKEN:
        answers, grown = await growth(f"/{name}/")
        assert {answer.status_code for answer in answers} == {500}
        kind = "OperationalError" if VENDOR == "sqlite" else "UndefinedColumn"
        errors = grown("db_errors_total", labels.replace(",", f",type={kind},"))
        assert errors == 8 or (POOL and errors > 8), errors


async def cache_engines():
    for alias, backend in (("default", "locmem"), ("files", "filebased")):
        for name in ("cached", "cached_too"):
            url = f"/{name}/{alias}/{name}/"
            for expected in ((1, 0, 1), (8, 8, 0)):
                answers, grown = await growth(url, times=expected[0])
                assert {answer.json()["value"] for answer in answers} == {"new"}
                kinds = [f"cache_get{kind}_total" for kind in ("", "_hits", "_misses")]
                found = tuple(grown(kind, f"backend={backend}") for kind in kinds)
                assert found == expected, (name, alias, found)


site_of.run(requests, database_engine, cache_engines)
