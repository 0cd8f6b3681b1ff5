"""Synchronous and coroutine operations: users, pages, transactions, streams, throttling."""

import asyncio
import json
from contextvars import ContextVar

import site_of

site_of.configure(
    INSTALLED_APPS=["ninja"],
    MIDDLEWARE=[*site_of.MIDDLEWARE, "__main__.language"],
    NINJA_PAGINATION_PER_PAGE=2,
)

from django.contrib.auth.models import User  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.db import transaction  # noqa: E402
from django.db.models.signals import post_save  # noqa: E402
from django.shortcuts import aget_object_or_404, get_object_or_404  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from ninja import Field, ModelSchema, NinjaAPI, Schema, Status  # noqa: E402
from ninja.errors import HttpError  # noqa: E402
from ninja.pagination import paginate  # noqa: E402
from ninja.security import HttpBearer, SessionAuth  # noqa: E402
from ninja.streaming import JSONL  # noqa: E402
from ninja.throttling import AuthRateThrottle  # noqa: E402
from shop.models import Author, Book  # noqa: E402

spoken, written = ContextVar("spoken", default=""), []


def language(get_response):
    def middleware(request):
        spoken.set(request.headers.get("accept-language"))
        return get_response(request)

    return middleware


def record(instance, **kwargs):
    written.append((instance.title, spoken.get()))


post_save.connect(record, sender=Book)


class Token(HttpBearer):
    def authenticate(self, request, token):
        return User.objects.filter(username=token).first()


class AsyncToken(HttpBearer):
    async def authenticate(self, request, token):
        return await User.objects.filter(username=token).afirst()


class BookOut(ModelSchema):
    author: str = Field(alias="author.name")

    class Meta:
        model = Book
        fields = ("id", "title", "stock")


class BookIn(Schema):
    title: str
    author: str
    stock: int = 0


BOOKS = Book.objects.select_related("author").order_by("pk")
api = NinjaAPI()


@api.get("/sync/books", response=list[BookOut], auth=Token())
@paginate
def sync_books(request, title: str = ""):
    return BOOKS.filter(title__icontains=title)


@api.get("/async/books", response=list[BookOut], auth=AsyncToken())
@paginate
async def async_books(request, title: str = ""):
    return BOOKS.filter(title__icontains=title)


@api.get("/stream", response=JSONL[BookOut])
async def stream(request):
    async for book in BOOKS.aiterator():
        yield book


@api.get("/limited", auth=Token(), throttle=AuthRateThrottle("2/h"))
async def limited(request):
    return {"user": request.auth.username}


# One path with operations of both kinds, and either kind with the other's authentication.
@api.get("/books/{pk}", response=BookOut, auth=AsyncToken())
def sync_book(request, pk: int):
    return get_object_or_404(BOOKS, pk=pk)


@api.put("/books/{pk}", response=BookOut, auth=[SessionAuth(), Token()])
async def put_book(request, pk: int, data: BookIn):
    book = await aget_object_or_404(BOOKS, pk=pk)
    book.title = f"{data.title} by {request.auth.username}"
    await book.asave()
    return book


@api.post("/sync/books", response={201: BookOut}, auth=AsyncToken())
def sync_create(request, data: BookIn):
    with transaction.atomic():
        author = Author.objects.create(name=data.author)
        if data.stock < 0:
            raise HttpError(409, request.auth.username)
        return Status(201, Book.objects.create(title=data.title, author=author))


@api.post("/async/books", response={201: BookOut}, auth=Token())
async def async_create(request, data: BookIn):
    async with transaction.atomic():
        author = await Author.objects.acreate(name=data.author)
        if data.stock < 0:
            raise HttpError(409, request.auth.username)
        return Status(201, await Book.objects.acreate(title=data.title, author=author))


urlpatterns = [path("api/", api.urls)]


async def ask(name, url, data=None, method="get"):
    """Ask as the user of this name; his name is his token. Returns the status and the answer."""
    asked = {"headers": {"authorization": f"Bearer {name}", "accept-language": name}}
    if data:
        asked |= {"data": {"author": "Lem", **data}, "content_type": "application/json"}
    answer = await getattr(AsyncClient(), method)(f"/api/{url}", **asked)
    return answer.status_code, answer.json()


async def fill(*names):
    """Three books, and users of these names."""
    cache.clear()
    for name in names:
        await User.objects.acreate_user(name)
    author = await Author.objects.acreate(name="Lem")
    titles = ("Solaris", "Eden", "Cyber")
    return [await Book.objects.acreate(title=title, author=author) for title in titles]


async def lists():
    await fill("ann")
    for kind in ("sync", "async"):
        assert (await ask("nobody", f"{kind}/books"))[0] == 401
        assert (await ask("ann", f"{kind}/books?limit=x"))[0] == 422
        _, page = await ask("ann", f"{kind}/books?offset=2")
        assert page["count"] == 3
        assert [(book["title"], book["author"]) for book in page["items"]] == [("Cyber", "Lem")]
        assert (await ask("ann", f"{kind}/books?title=Eden"))[1]["count"] == 1
    answer = await AsyncClient().get("/api/stream")
    books = [json.loads(line) async for line in answer]
    assert [book["title"] for book in books] == ["Solaris", "Eden", "Cyber"]
    assert "Async Books" in (await AsyncClient().get("/api/openapi.json")).content.decode()


async def created_by_many(kind):
    """All at once: each with its own user, its own variable, and whole transactions."""
    names = [f"user{number}" for number in range(6)]
    await fill(*names)
    written.clear()
    answers = await asyncio.gather(
        *(
            ask(name, f"{kind}/books", {"title": name, "author": name, "stock": stock}, "post")
            for stock in (1, -1)
            for name in names
        ),
    )
    made = [(status, book["title"], book["author"]) for status, book in answers[:6]]
    assert made == [(201, name, name) for name in names]
    assert answers[6:] == [(409, {"detail": name}) for name in names]
    assert sorted(written) == [(name, name) for name in names]
    assert await Author.objects.acount() == 7


async def created():
    await created_by_many("sync")


@site_of.needs_us
async def created_by_coroutines():
    await created_by_many("async")


async def both_kinds():
    """One path: a session or a token, and what is not found."""
    book, *_ = await fill("ann", "bob")
    url = f"books/{book.pk}"
    assert (await ask("ann", url))[1]["title"] == "Solaris"
    assert (await ask("ann", url, {"title": "New"}, "put"))[1]["title"] == "New by ann"
    client = AsyncClient()
    await client.aforce_login(await User.objects.aget(username="bob"))
    changed = await client.put(f"/api/{url}", {"title": "x", "author": "y"}, "application/json")
    assert changed.json()["title"] == "x by bob"
    assert await ask("ann", "books/0", {"title": "New"}, "put") == (404, {"detail": "Not Found"})
    assert (await client.delete(f"/api/{url}")).status_code == 405


async def limits():
    names = ["ann", "bob", "cid"]
    await fill(*names)
    for status in (200, 200, 429):
        answers = await asyncio.gather(*(ask(name, "limited") for name in names))
        assert [answer[0] for answer in answers] == [status] * 3
        assert status == 429 or [data for _, data in answers] == [{"user": n} for n in names]


site_of.run(lists, created, created_by_coroutines, both_kinds, limits)
