"""A coroutine schema: synchronous and coroutine resolvers, the optimizer, mutations and logins."""

import asyncio
import json
import logging

import site_of

# DEBUG, so that every statement is logged.
site_of.configure(INSTALLED_APPS=["strawberry_django"], DEBUG=True, LOGGING_CONFIG=None)

import strawberry  # noqa: E402
import strawberry_django  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.exceptions import ValidationError  # noqa: E402
from django.db import transaction  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author, Book  # noqa: E402
from strawberry.dataloader import DataLoader  # noqa: E402
from strawberry.django.views import AsyncGraphQLView, GraphQLView  # noqa: E402
from strawberry_django.optimizer import DjangoOptimizerExtension  # noqa: E402
from strawberry_django.permissions import IsAuthenticated  # noqa: E402

auto = strawberry.auto


class Statements(logging.Handler):
    """What has been sent to the database, by any thread or task."""

    sent: list = []

    def emit(self, record):
        self.sent.append(record.sql)


log = logging.getLogger("django.db.backends")
log.setLevel(logging.DEBUG)
log.addHandler(Statements())
logging.getLogger("strawberry.execution").disabled = True  # it logs each error of a query


@strawberry_django.type(User)
class UserType:
    username: auto


@strawberry_django.filter_type(Book)
class BookFilter:
    title: strawberry_django.StrFilterLookup | None


@strawberry_django.order_type(Book)
class BookOrder:
    title: auto


@strawberry_django.type(Author)
class AuthorType:
    id: auto
    name: auto
    books: list["BookType"] = strawberry_django.field(ordering=BookOrder)


@strawberry_django.type(Book, filters=BookFilter, ordering=BookOrder, pagination=True)
class BookType:
    id: auto
    title: auto
    author: AuthorType

    @strawberry_django.field(only=["title", "author__name"], select_related=["author"])
    def label(self) -> str:
        return f"{self.title} by {self.author.name}"

    @strawberry_django.field(only=["author_id"])
    async def siblings(self, info: strawberry.Info) -> int:
        return await info.context["siblings"].load(self.author_id)


@strawberry_django.partial(Book)
class BookInput:
    id: auto
    title: auto
    author: auto


@strawberry.type
class Query:
    books: list[BookType] = strawberry_django.field()
    authors: list[AuthorType] = strawberry_django.field()
    me: UserType = strawberry_django.auth.current_user()

    @strawberry.field
    async def mine(self, info: strawberry.Info) -> str:
        user = await info.context["request"].auser()
        return f"{user.username} of {await User.objects.acount()}"


@strawberry.type
class Mutation:
    login: UserType = strawberry_django.auth.login()
    create_book: BookType = strawberry_django.mutations.create(
        BookInput, handle_django_errors=True, extensions=[IsAuthenticated()]
    )
    update_book: BookType = strawberry_django.mutations.update(BookInput)
    delete_book: BookType = strawberry_django.mutations.delete(BookInput)

    @strawberry_django.mutation(handle_django_errors=True)
    def order(self, name: str, stock: int) -> BookType:
        with transaction.atomic():
            book = Book.objects.create(title=name, author=Author.objects.create(name=name))
            if stock < 0:
                raise ValidationError({"stock": "below zero"})
            return book

    @strawberry.mutation
    async def aorder(self, name: str, stock: int) -> str:
        async with transaction.atomic():
            author = await Author.objects.acreate(name=name)
            if stock < 0:
                raise ValueError("below zero")
            return (await Book.objects.acreate(title=name, author=author)).title


async def count_books(authors):
    books = Book.objects.filter(author__in=authors)
    found = [pk async for pk in books.values_list("author", flat=True)]
    return [found.count(author) for author in authors]


class WithLoader(AsyncGraphQLView):
    async def get_context(self, request, response):
        loader = DataLoader(load_fn=count_books)
        return {"request": request, "response": response, "siblings": loader}


schema = strawberry.Schema(Query, Mutation, extensions=[DjangoOptimizerExtension])
urlpatterns = [
    path("async/", WithLoader.as_view(schema=schema)),
    path("sync/", GraphQLView.as_view(schema=schema)),
]


async def ask(query, client=None, url="/async/", **variables):
    """The data of the answer, or the messages of its errors. Variables come in for their names."""
    query = query.replace("INFO", "...on OperationInfo{messages{field message}}")
    for name, value in variables.items():
        query = query.replace(f"${name}", json.dumps(value))
    answer = await (client or AsyncClient()).post(url, {"query": query}, "application/json")
    data, errors = answer.json()["data"], answer.json().get("errors", ())
    return data or [error["message"] for error in errors]


async def fill(*users):
    """Two authors with two books each, and a client for each user, who is logged in."""
    for name in ("Lem", "Le Guin"):
        author = await Author.objects.acreate(name=name)
        for title in ("A", "B"):
            await Book.objects.acreate(title=f"{title} of {name}", author=author)
    clients = [AsyncClient() for name in users]
    for client, name in zip(clients, users, strict=True):
        await client.aforce_login(await User.objects.acreate_user(name, password=name))
    Statements.sent.clear()
    return clients


async def queries():
    """The optimizer joins and prefetches, the loader collects: two statements each."""
    await fill()
    for url in ("/async/", "/sync/"):
        query = "{books{label author{name books(ordering:{title:DESC}){title}}}}"
        first = (await ask(query, url=url))["books"][0]
        books = [{"title": "B of Lem"}, {"title": "A of Lem"}]
        assert first == {"label": "A of Lem by Lem", "author": {"name": "Lem", "books": books}}
        assert len(Statements.sent) == 2, Statements.sent
        query = "{books(filters:{title:{endsWith:$end}}, pagination:{limit:1}){title}}"
        found = await ask(query, url=url, end="Guin")
        assert found == {"books": [{"title": "A of Le Guin"}]}
        assert "Cannot query field" in (await ask("{nothing}", url=url))[0]
        assert await ask("{me{username}}", url=url) == ["User is not logged in."]
        Statements.sent.clear()
    assert await ask("{books{siblings}}") == {"books": [{"siblings": 2}] * 4}
    assert len(Statements.sent) == 2, Statements.sent


async def changes():
    (client,) = await fill("ann")
    data = {"title": "New", "by": (await Author.objects.aget(name="Lem")).pk}
    create = "mutation{createBook(data:{title:$title,author:{set:$by}}){...on BookType{title}INFO}}"
    refused = (await ask(create, **data))["createBook"]["messages"]
    assert refused == [{"field": "createBook", "message": "User is not authenticated."}]
    assert await ask(create, client, **data) == {"createBook": {"title": "New"}}
    invalid = (await ask(create, client, **{**data, "title": "x" * 101}))["createBook"]["messages"]
    assert [each["field"] for each in invalid] == ["title"]
    data = {"pk": (await Book.objects.aget(title="New")).pk, "title": "Newer"}
    change = "mutation{updateBook(data:{id:$pk,title:$title}){title author{name}}}"
    changed = await ask(change, **data)
    assert changed == {"updateBook": {"title": "Newer", "author": {"name": "Lem"}}}
    assert (await ask("mutation{deleteBook(data:{id:$pk}){title}}", **data))["deleteBook"]
    assert (await ask(change, **data))[0].startswith("Book matching query does not exist")


async def users_at_once():
    names = [f"user{number}" for number in range(6)]
    clients = await fill(*names)
    query = "{me{username} again:me{username} mine books{title}}"
    answers = await asyncio.gather(*(ask(query, client) for client in clients))
    for name, answer in zip(names, answers, strict=True):
        assert answer["me"] == answer["again"] == {"username": name}
        assert (answer["mine"], len(answer["books"])) == (f"{name} of 6", 4)
    client, login = AsyncClient(), "mutation{login(username:$name,password:$word){username}}"
    refused = await ask(login, client, name="user1", word="wrong")
    assert refused == ["Incorrect username/password"]
    assert await ask(login, client, name="user1", word="user1")
    assert await ask("{mine}", client) == {"mine": "user1 of 6"}


async def orders(query):
    """Transactions of several requests: whole, or nothing of them."""
    await fill()
    names = [f"{stock} in stock: {number}" for stock in (1, -1) for number in range(5)]
    answers = await asyncio.gather(
        *(ask(query, name=name, stock=int(name.split()[0])) for name in names)
    )
    for name, answer in zip(names, map(str, answers), strict=True):
        assert (name if name[0] == "1" else "below zero") in answer, answer
    found = [name async for name in Author.objects.values_list("name", flat=True)]
    assert sorted(found) == sorted(["Lem", "Le Guin", *names[:5]])


async def transactions():
    await orders("mutation{order(name:$name,stock:$stock){...on BookType{title}INFO}}")


@site_of.needs_us
async def transactions_of_coroutines():
    await orders("mutation{aorder(name:$name,stock:$stock)}")


site_of.run(queries, changes, users_at_once, transactions, transactions_of_coroutines)
