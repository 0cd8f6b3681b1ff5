"""The ORM natively on the loop: every a-prefixed method, and what it must not do."""

import asyncio
import threading

import pytest
from conftest import postgresql_only
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import SynchronousOnlyOperation
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import Count, Prefetch, aprefetch_related_objects
from django.db.models.sql.subqueries import DeleteQuery, UpdateQuery
from hops import count_hops
from testapp.models import Author, Book, Tag

from django_aio import run

pytestmark = pytest.mark.usefixtures("db")


async def authors(*names):
    return [await Author.objects.acreate(name=name) for name in names]


async def test_queryset_methods():
    a, b, c = await authors("a", "b", "c")
    every = Author.objects.order_by("name")
    assert await every.acount() == 3
    assert await every.aexists()
    assert await every.acontains(b)
    assert await every.aget(name="b") == b
    assert await every.afirst() == a
    assert await every.alast() == c
    assert await every.aearliest("name") == a
    assert await every.alatest("name") == c
    assert await every.ain_bulk([a.pk, c.pk]) == {a.pk: a, c.pk: c}
    assert await every.aaggregate(n=Count("pk")) == {"n": 3}
    assert await every.filter(name="a").aupdate(born=1) == 1
    assert (await every.aget_or_create(name="d"))[1]
    assert not (await every.aupdate_or_create(name="d", defaults={"born": 2}))[1]
    d = await every.aget(name="d")
    assert d.born == 2
    d.born = 3
    assert await every.abulk_update([d], ["born"]) == 1
    await every.abulk_create([Author(name="e"), Author(name="f")])
    assert (await every.filter(name__in="def").adelete())[0] == 3
    assert "author" in (await every.aexplain()).lower()
    assert [author async for author in every] == [a, b, c]
    assert await run(list, every.values_list("name", flat=True)) == ["a", "b", "c"]
    with pytest.raises(Author.DoesNotExist):
        await every.aget(name="x")


async def test_model_methods():
    author = Author(name="a")
    await author.asave()
    await Author.objects.filter(pk=author.pk).aupdate(name="b")
    await author.arefresh_from_db()
    assert author.name == "b"
    await author.adelete()
    assert not await Author.objects.aexists()


async def test_overridden_save_queries():
    (author,) = await authors("a")
    first = await Book.objects.acreate(title="t", author=author)
    second = Book(title="t", author=author)
    await second.asave()
    assert (first.pages, second.pages) == (100, 101)


async def test_custom_manager():
    (author,) = await authors("a")
    book = await run(Book.shouting.shout, "hello", author=author)
    assert await Book.shouting.aget() == book


async def test_related_managers():
    a, b, c = await authors("a", "b", "c")
    book = await a.books.acreate(title="one")
    assert (await a.books.aget_or_create(title="two"))[1]
    # One more than said: Book.save() adds the books of that title.
    assert (await a.books.aupdate_or_create(title="two", defaults={"pages": 7}))[0].pages == 8
    await b.books.aadd(book)
    await book.arefresh_from_db()
    assert book.author_id == b.pk
    await book.readers.aadd(a, b)
    await book.readers.aset([b, c])
    assert {reader.name async for reader in book.readers.all()} == {"b", "c"}
    await book.readers.aremove(b)
    assert await book.readers.acount() == 1
    assert (await book.readers.aget_or_create(name="d"))[1]
    await book.readers.aclear()
    assert not await book.readers.aexists()
    assert await c.read.acount() == 0


async def test_generic_relations():
    # As in Django, a generic relation's manager looks its content type up when it is made.
    await run(ContentType.objects.get_for_model, Author)
    (author,) = await authors("a")
    tag = await author.tags.acreate(name="x")
    assert (await author.tags.aget_or_create(name="y"))[1]
    await author.tags.aremove(tag)
    assert [tag.name async for tag in author.tags.all()] == ["y"]
    await author.tags.aset([await Tag.objects.acreate(name="z", target=author)])
    assert await run(lambda: [t.target for t in Tag.objects.all()]) == [author]
    await author.tags.aclear()
    assert not await author.tags.aexists()


async def test_lazy_foreign_keys_and_deferred_fields():
    (author,) = await authors("a")
    await Book.objects.acreate(title="one", author=author)

    def read():
        book = Book.objects.only("pk").get()
        return book.author.name, book.title

    assert await run(read) == ("a", "one")


async def test_prefetch():
    a, b = await authors("a", "b")
    for author in (a, a, b):
        await Book.objects.acreate(title=f"by {author}", author=author)
    found = [
        author
        async for author in Author.objects.prefetch_related(
            Prefetch("books", queryset=Book.objects.order_by("pk"))
        ).order_by("pk")
    ]
    assert [len(author.books.all()) for author in found] == [2, 1]
    fresh = [author async for author in Author.objects.order_by("pk")]
    await aprefetch_related_objects(fresh, "books")
    assert [len(author.books.all()) for author in fresh] == [2, 1]


async def test_raw():
    await authors("a", "b")
    raw = Author.objects.raw("SELECT * FROM testapp_author ORDER BY name")
    assert [author.name async for author in raw] == ["a", "b"]


async def test_values_and_union():
    await authors("a", "b")
    assert [row async for row in Author.objects.order_by("name").values("name")] == [
        {"name": "a"},
        {"name": "b"},
    ]
    both = Author.objects.filter(name="a").union(Author.objects.filter(name="b"))
    assert await both.acount() == 2


async def test_paginator():
    await authors(*"abcde")
    paginator = Paginator(Author.objects.order_by("name"), 2)
    page = await run(paginator.get_page, 3)
    assert await run(list, page) == [await Author.objects.aget(name="e")]


async def test_async_paginator():
    paginator_module = pytest.importorskip("django.core.paginator")
    if not hasattr(paginator_module, "AsyncPaginator"):
        pytest.skip("AsyncPaginator came with Django 6.0")
    await authors(*"abcde")
    paginator = paginator_module.AsyncPaginator(Author.objects.order_by("name"), 2)
    assert await paginator.acount() == 5
    page = await paginator.apage(2)
    assert [author.name async for author in page] == ["c", "d"]


async def test_aiterator_reads_in_chunks():
    await Author.objects.abulk_create([Author(name=str(n)) for n in range(250)])
    names = [author.name async for author in Author.objects.order_by("pk").aiterator(100)]
    assert names == [str(n) for n in range(250)]
    pairs = Author.objects.prefetch_related("books").order_by("pk")
    assert len([author async for author in pairs.aiterator(chunk_size=100)]) == 250


async def test_a_broken_off_iteration_closes_its_cursor():
    await Author.objects.abulk_create([Author(name=str(n)) for n in range(250)])
    rows = Author.objects.order_by("pk").aiterator(chunk_size=10)
    await anext(rows)
    await rows.aclose()
    if connection.vendor == "postgresql":
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT count(*) FROM pg_cursors WHERE name LIKE '\\_django%%'")
            assert await cursor.fetchone() == (0,)
    assert await Author.objects.acount() == 250


@postgresql_only
async def test_aiterator_streams_from_the_server():
    """The server keeps the rows: the first ones come without the last ones being computed."""
    await Author.objects.acreate(name="a")
    endless = Author.objects.raw("SELECT 1 AS id, 'x' AS name, 1 AS born")
    assert [author.name async for author in endless] == ["x"]
    rows = Author.objects.order_by("pk").aiterator(chunk_size=1)
    await anext(rows)
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT is_holdable FROM pg_cursors WHERE name LIKE '\\_django%%'")
        assert await cursor.fetchall() == [(True,)]
    await rows.aclose()


async def test_compiler_and_query_twins():
    (author, _) = await authors("a", "b")
    queryset = Author.objects.order_by("pk")
    compiler = queryset.query.get_compiler(connection=connection)
    assert [row[1] async for row in compiler.aresults_iter()] == ["a", "b"]
    assert await compiler.ahas_results()
    assert await queryset.query.aget_count("default") == 2
    assert await queryset.query.ahas_results("default")
    total = {"n": models.Count("pk")}
    assert await queryset.query.aget_aggregation("default", total) == {"n": 2}
    assert await queryset.query.aexplain("default")
    update = UpdateQuery(Author)
    await update.aupdate_batch([author.pk], {"born": 5}, "default")
    assert await Author.objects.filter(born=5).acount() == 1
    delete = DeleteQuery(Author)
    assert await delete.adelete_batch([author.pk], "default") == 1


async def test_nothing_is_handed_to_a_thread():
    await authors("warm")
    with count_hops() as hops:
        (author,) = await authors("a")
        await Book.objects.acreate(title="t", author=author)
        assert await Book.objects.select_related("author").aget(title="t")
        assert [book async for book in author.books.all()]
        await author.adelete()
    assert not [hop for hop in hops if hop not in hops.by_sqlite()]


@postgresql_only
async def test_gather_runs_at_the_same_time():
    """Both queries must be on the server at once, or neither lock could be waited for."""
    both = asyncio.Barrier(2)

    async def query():
        async with connection.cursor() as cursor:
            await both.wait()
            await cursor.execute("SELECT pg_backend_pid()")
            return (await cursor.fetchone())[0]

    first, second = await asyncio.gather(query(), query())
    assert first != second


def test_synchronous_code_is_untouched():
    """In a plain thread the connection is the thread's, and no loop is needed."""
    Author.objects.create(name="a")
    seen = []

    def look():
        seen.append(connection.connection)
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert Author.objects.count() == 1
    assert seen == [None]


async def test_synchronous_use_in_a_coroutine_is_refused():
    await authors("a")
    with pytest.raises(SynchronousOnlyOperation, match="await the a-prefixed method"):
        list(Author.objects.all())
    with pytest.raises(SynchronousOnlyOperation):
        list(Author.objects.iterator())
    with pytest.raises(SynchronousOnlyOperation), connection.cursor():
        pass
    assert await Author.objects.acount() == 1
