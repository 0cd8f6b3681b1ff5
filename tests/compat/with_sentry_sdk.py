"""Errors, users, tags, transactions and spans that Sentry's Django integration records."""

import asyncio
import re

import sentry_sdk
import site_of
from sentry_sdk.integrations.asyncio import enable_asyncio_integration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport


class Kept(Transport):
    """Keeps what would be sent."""

    items: list = []

    def capture_envelope(self, envelope):
        self.items += [(item.type, item.payload.json) for item in envelope.items]


# In the settings, as sites do: before django.setup().
sentry_sdk.init(
    dsn="http://key@localhost/1",
    transport=Kept,
    traces_sample_rate=1,
    send_default_pii=True,
    integrations=[DjangoIntegration(db_transaction_spans=True)],
)
DATABASE = site_of.database()
if "pool" not in DATABASE["OPTIONS"]:
    DATABASE["CONN_MAX_AGE"] = 60  # the connection of a request serves others before and after it
site_of.configure(DATABASES={"default": DATABASE})

from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.db import transaction  # noqa: E402
from django.db.models import Value  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author  # noqa: E402

WHO = [f"visitor{number}" for number in range(8)]
application = get_asgi_application()


def marked(mark):
    """A query whose SQL tells for whom it is."""
    return Author.objects.annotate(**{mark: Value(1)})


def fails(request, who):
    sentry_sdk.set_tag("who", who)
    list(marked(f"of_{who}"))
    raise ValueError(f"{request.user.username} failed")


async def fails_too(request, who):
    sentry_sdk.set_tag("who", who)
    user = await request.auser()
    [author async for author in marked(f"of_{who}")]
    raise ValueError(f"{user.username} failed")


def lists(request, who):
    with transaction.atomic():
        names = [author.name for author in marked(f"of_{who}_1")]
    return JsonResponse({"names": names, "first": marked(f"of_{who}_2").first().name})


async def lists_too(request, who):
    async def names():
        return [author.name async for author in marked(f"of_{who}_1")]

    found, first = await asyncio.gather(names(), marked(f"of_{who}_2").afirst())
    return JsonResponse({"names": found, "first": first.name})


async def atomically(request, who):
    async with transaction.atomic():
        return await lists_too(request, who)


urlpatterns = [
    path("fails/<who>/", fails),
    path("fails-too/<who>/", fails_too),
    path("lists/<who>/", lists),
    path("lists-too/<who>/", lists_too),
    path("atomically/<who>/", atomically),
]


async def visit(url, cookie=""):
    """What a server does: Sentry watches ASGIHandler, and AsyncClient has a handler of its own."""
    messages, answer = asyncio.Queue(), []
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    headers = [(b"host", b"testserver"), (b"cookie", f"sessionid={cookie}".encode())]
    scope = {"type": "http", "method": "GET", "path": url, "headers": headers}

    async def send(message):
        answer.append(message)

    await application({**scope, "query_string": b""}, messages.get, send)
    return answer[0]["status"]


def recorded(kind):
    return [payload for item, payload in Kept.items if item == kind]


async def log_in(who):
    client = AsyncClient()
    await client.aforce_login(await User.objects.acreate_user(who))
    return client.cookies["sessionid"].value


async def errors_of_many():
    """Each request has one event, with its own user, tag, URL and trace."""
    enable_asyncio_integration(task_spans=True)
    cookies = [await log_in(who) for who in WHO]
    for url in ("fails", "fails-too"):
        Kept.items.clear()
        visits = zip(WHO, cookies, strict=True)
        answers = await asyncio.gather(*(visit(f"/{url}/{w}/", cookie) for w, cookie in visits))
        assert answers == [500] * len(WHO), answers
        traces = {}
        for event in recorded("transaction"):
            assert event["transaction"] == f"/{url}/{{who}}/", event["transaction"]
            traces[event["request"]["url"].split("/")[-2]] = event["contexts"]["trace"]
        events = recorded("event")
        assert sorted(event["tags"]["who"] for event in events) == WHO, len(events)
        for event in events:
            who = event["tags"]["who"]
            assert event["user"]["username"] == who, event["user"]
            assert event["request"]["url"].endswith(f"/{url}/{who}/")
            (error,) = event["exception"]["values"]
            assert error["value"] == f"{who} failed"
            assert error["mechanism"]["type"] == "django"
            assert error["stacktrace"]["frames"][-1]["function"] == url.replace("-", "_")
            assert event["contexts"]["trace"]["trace_id"] == traces[who]["trace_id"]
            crumbs = " ".join(each.get("message") or "" for each in event["breadcrumbs"]["values"])
            assert f"of_{who}" in crumbs
            assert not any(f"of_{other}" in crumbs for other in WHO if other != who)


async def spans_of(url, *, with_middleware):
    """Many visits: each statement is one span, in the transaction of its own request."""
    enable_asyncio_integration(task_spans=True)
    integration = sentry_sdk.get_client().get_integration(DjangoIntegration)
    integration.middleware_spans = with_middleware
    await Author.objects.acreate(name="Lem")
    Kept.items.clear()
    answers = await asyncio.gather(*(visit(f"/{url}/{who}/") for who in WHO))
    assert answers == [200] * len(WHO), answers
    transactions = recorded("transaction")
    assert sorted(event["request"]["url"].split("/")[-2] for event in transactions) == WHO
    for event in transactions:
        who = event["request"]["url"].split("/")[-2]
        spans = {span["span_id"]: span for span in event["spans"]}
        root = event["contexts"]["trace"]["span_id"]
        assert all(span["parent_span_id"] in {*spans, root} for span in event["spans"])
        statements = [span for span in event["spans"] if '"of_' in span["description"]]
        assert {span["op"] for span in statements} == {"db"}
        marks = sorted(re.search(r'"of_(\w+)"', span["description"])[1] for span in statements)
        assert marks == [f"{who}_1", f"{who}_2"], marks
        commits = [span for span in event["spans"] if span["description"] == "COMMIT"]
        assert len(commits) == (url in ("lists", "atomically")), (url, len(commits))
        middleware = [span for span in event["spans"] if span["op"] == "middleware.django"]
        names = {span["tags"]["django.middleware_name"] for span in middleware}
        assert names == (set(site_of.MIDDLEWARE) if with_middleware else set()), names
        views = [span for span in event["spans"] if span["op"] == "view.render"]
        assert len(views) == with_middleware
        for statement in statements if with_middleware else ():
            assert views[0]["span_id"] in above(statement, spans), (url, statement)


def above(span, spans):
    """The ids of the spans that a span is in."""
    while span is not None:
        yield span["parent_span_id"]
        span = spans.get(span["parent_span_id"])


async def spans_of_many():
    for with_middleware in (False, True):
        for url in ("lists", "lists-too"):
            await spans_of(url, with_middleware=with_middleware)


@site_of.needs_us
async def spans_in_transactions():
    for with_middleware in (False, True):
        await spans_of("atomically", with_middleware=with_middleware)


site_of.run(errors_of_many, spans_of_many, spans_in_transactions)
