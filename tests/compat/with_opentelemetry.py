"""OpenTelemetry's spans of requests and of their SQL, each under the span of its own request."""

import asyncio
import re

import site_of
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("site")

PsycopgInstrumentor().instrument(tracer_provider=provider)
SQLite3Instrumentor().instrument(tracer_provider=provider)
site_of.configure(MIDDLEWARE=list(site_of.MIDDLEWARE))
DjangoInstrumentor().instrument(tracer_provider=provider)  # adds a middleware to the settings

from django.core.asgi import get_asgi_application  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import Value  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author  # noqa: E402

WHO = [f"visitor{number}" for number in range(8)]


def marked(mark):
    """A query whose SQL tells in which span it belongs."""
    return Author.objects.annotate(**{f"in_{mark}": Value(1)}).order_by("pk")


def sync(request, who):
    with tracer.start_as_current_span(f"{who}_1"):
        names = [author.name for author in marked(f"{who}_1")]
    with tracer.start_as_current_span(f"{who}_2"), transaction.atomic():
        marked(f"{who}_2").first()
    return JsonResponse({"names": names})


async def coroutine(request, who):
    with tracer.start_as_current_span(f"{who}_1"):
        names = [author.name async for author in marked(f"{who}_1")]
    with tracer.start_as_current_span(f"{who}_2"):
        await marked(f"{who}_2").afirst()
    return JsonResponse({"names": names})


async def gathers(request, who):
    async def first(mark):
        with tracer.start_as_current_span(mark):
            return await marked(mark).afirst()

    found = await asyncio.gather(first(f"{who}_1"), first(f"{who}_2"))
    return JsonResponse({"names": [author.name for author in found]})


async def iterates(request, who):
    with tracer.start_as_current_span(f"{who}_1"):
        names = [author.name async for author in marked(f"{who}_1").aiterator()]
    with tracer.start_as_current_span(f"{who}_2"):
        await marked(f"{who}_2").aget(name="Lem")
    return JsonResponse({"names": names})


async def atomically(request, who):
    async with transaction.atomic():
        return await gathers(request, who)


def fails(request, who):
    raise ValueError(who)


async def fails_too(request, who):
    raise ValueError(who)


VIEWS = {"sync": sync, "coroutine": coroutine, "gathers": gathers, "iterates": iterates}
MORE = {"atomically": atomically, "fails": fails, "fails-too": fails_too}
urlpatterns = [path(f"{name}/<who>/", view) for name, view in {**VIEWS, **MORE}.items()]


async def visit_all(name):
    """Many visits at once. Returns the spans that have been recorded, by id."""
    exporter.clear()
    client = AsyncClient(raise_request_exception=False)
    answers = await asyncio.gather(*(client.get(f"/{name}/{who}/") for who in WHO))
    assert {answer.status_code for answer in answers} == {500 if "fails" in name else 200}
    return {span.context.span_id: span for span in exporter.get_finished_spans()}


def check_requests(spans, name):
    """Each request has a span of its own, the root of its trace."""
    requests = [span for span in spans.values() if span.kind is SpanKind.SERVER]
    assert {span.name for span in requests} == {f"GET {name}/<who>/"}
    assert sorted(span.attributes["http.url"].split("/")[-2] for span in requests) == WHO
    assert all(span.parent is None for span in requests)
    assert len({span.context.trace_id for span in requests}) == len(WHO)
    return requests


def check_views(spans, requests):
    """What a view opens is in the span of its request."""
    for request in requests:
        who = request.attributes["http.url"].split("/")[-2]
        below = [
            s for s in spans.values() if s.parent and s.parent.span_id == request.context.span_id
        ]
        names = {span.name for span in below if span.kind is SpanKind.INTERNAL}
        assert names == {f"{who}_1", f"{who}_2"}, names


def check_statements(spans, name):
    """Each statement is recorded once, in the span that was open where it was run.

    The instrumentation of psycopg leaves out server-side cursors.
    """
    numbers = "2" if name == "iterates" and connection.vendor == "postgresql" else "12"
    statements = [s for s in spans.values() if "in_" in s.attributes.get("db.statement", "")]
    marks = [re.search(r'"in_(\w+)"', s.attributes["db.statement"])[1] for s in statements]
    assert sorted(marks) == sorted(f"{who}_{n}" for who in WHO for n in numbers), marks
    for mark, statement in zip(marks, statements, strict=True):
        assert statement.parent is not None, f"the statement of {mark} is in no trace"
        assert spans[statement.parent.span_id].name == mark


async def requests_at_once():
    await Author.objects.acreate(name="Lem")
    for name in VIEWS:
        spans = await visit_all(name)
        check_views(spans, check_requests(spans, name))


async def statements_at_once():
    await Author.objects.acreate(name="Lem")
    for name in VIEWS:
        check_statements(await visit_all(name), name)


@site_of.needs_us
async def statements_of_a_transaction():
    await Author.objects.acreate(name="Lem")
    spans = await visit_all("atomically")
    check_views(spans, check_requests(spans, "atomically"))
    check_statements(spans, "atomically")


async def errors():
    for name in ("fails", "fails-too"):
        requests = check_requests(await visit_all(name), name)
        for request in requests:
            assert request.status.status_code is StatusCode.ERROR
            who = request.attributes["http.url"].split("/")[-2]
            recorded = [e.attributes["exception.message"] for e in request.events]
            assert recorded == [who], recorded


async def whole_application():
    """The ASGI middleware outside: Django's span is in the one that it made."""
    messages, answer = asyncio.Queue(), []
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    scope = {"type": "http", "method": "GET", "path": "/gathers/visitor0/", "query_string": b""}

    async def send(message):
        answer.append(message)

    await Author.objects.acreate(name="Lem")
    exporter.clear()
    application = OpenTelemetryMiddleware(get_asgi_application(), tracer_provider=provider)
    headers = {"headers": [(b"host", b"testserver")], "scheme": "http", "http_version": "1.1"}
    await application({**scope, **headers}, messages.get, send)
    assert answer[0]["status"] == 200
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans if "_" in span.name}) == 1
    (root,) = [span for span in spans if span.parent is None and span.kind is SpanKind.SERVER]
    # A pool prepares its connections for nobody: these have no parent, and are not asked about.
    asked = [span for span in spans if "set_config" not in str(span.attributes.get("db.statement"))]
    assert {span.context.trace_id for span in asked} == {root.context.trace_id}, asked


site_of.run(
    requests_at_once, errors, statements_at_once, statements_of_a_transaction, whole_application
)
