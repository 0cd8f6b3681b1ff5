"""Sentry and OpenTelemetry in one site: all patches are applied, the policy holds, both see all."""

import asyncio
import threading

import sentry_sdk
import site_of
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport


class Sent(Transport):
    """Keeps what would be sent."""

    transactions = []

    def capture_envelope(self, envelope):
        self.transactions += [item.payload.json for item in envelope.items]


# As a project's settings do it, before Django is set up.
sentry_sdk.init(
    dsn="http://key@localhost/1",
    transport=Sent,
    traces_sample_rate=1,
    integrations=[DjangoIntegration(middleware_spans=True, cache_spans=True)],
)
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
PsycopgInstrumentor().instrument(tracer_provider=provider)
SQLite3Instrumentor().instrument(tracer_provider=provider)
LISTED = ["sentry_sdk", "opentelemetry"]
site_of.configure(
    MIDDLEWARE=[
        *site_of.MIDDLEWARE,
        "__main__.function_middleware",
        "__main__.ClassMiddleware",
        "__main__.Mixin",
    ],
    AIO={"COOPERATIVE": LISTED},
)

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.deprecation import MiddlewareMixin  # noqa: E402
from shop.models import Author  # noqa: E402

places = {}
HOOKS = ("function", "class", "class view", "mixin request", "mixin view", "mixin response")


def note(what):
    on_the_loop = threading.current_thread() is threading.main_thread()
    places[what] = "loop" if on_the_loop else "thread"


def function_middleware(get_response):
    def middleware(request):
        note("function")
        return get_response(request)

    return middleware


class ClassMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        note("class")
        return self.get_response(request)

    def process_view(self, request, view, args, kwargs):
        note("class view")


class Mixin(MiddlewareMixin):
    def process_request(self, request):
        note("mixin request")

    def process_view(self, request, view, args, kwargs):
        note("mixin view")

    def process_response(self, request, response):
        note("mixin response")
        return response


def sync(request):
    note("view")
    return JsonResponse({"authors": Author.objects.count()})


async def coroutine(request):
    note("view")
    return JsonResponse({"authors": await Author.objects.acount()})


urlpatterns = [path("sync/", sync), path("coroutine/", coroutine)]


async def visit(url):
    """Where each part of a request to a server's application has run."""
    messages, answer = asyncio.Queue(), []
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    scope = {"type": "http", "method": "GET", "path": url, "query_string": b""}

    async def send(message):
        answer.append(message)

    places.clear()
    Sent.transactions.clear()
    exporter.clear()
    application = get_asgi_application()
    await application({**scope, "headers": [(b"host", b"testserver")]}, messages.get, send)
    assert answer[0]["status"] == 200
    (transaction,) = Sent.transactions
    seen = [span["description"] for span in transaction["spans"]]
    assert len([sql for sql in seen if sql and "shop_author" in sql]) == 1, seen
    statements = [span.attributes.get("db.statement") for span in exporter.get_finished_spans()]
    assert len([sql for sql in statements if "shop_author" in str(sql)]) == 1, statements
    return dict(places)


@site_of.needs_us
async def series_and_policy():
    from django_aio import series

    series.apply_all()
    assert series.conflicts() == []
    assert [patch.target for patch in series.SERIES if patch.stranger]
    assert not series.drifted()
    for url, view in (("/sync/", "thread"), ("/coroutine/", "loop")):
        assert await visit(url) == {**dict.fromkeys(HOOKS, "thread"), "view": view}
    with override_settings(AIO={"COOPERATIVE": [*LISTED, "__main__"]}):
        for url in ("/sync/", "/coroutine/"):
            assert await visit(url) == dict.fromkeys((*HOOKS, "view"), "loop")


async def both_see_each_request():
    for url in ("/sync/", "/coroutine/"):
        await visit(url)


site_of.run(both_see_each_request, series_and_policy)
