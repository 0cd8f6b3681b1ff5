"""Content types and generic relations, on the loop."""

import asyncio

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import aprefetch_related_objects
from django.test.utils import CaptureQueriesContext
from staying import on_the_loop
from testapp.models import Author, Book, Tag

from django_aio import run


@pytest.fixture(autouse=True)
def _cold(persistent):
    ContentType.objects.clear_cache()
    yield
    ContentType.objects.clear_cache()


def queries(call):
    """How many queries a call needs, in the bridge."""
    with CaptureQueriesContext(connection) as captured:
        call()
    return len(captured)


async def test_the_cache_of_the_manager():
    def look():
        return ContentType.objects.get_for_model(Author)

    assert await run(queries, look) == 1
    with on_the_loop():
        assert await run(queries, look) == 0
        found = await run(look)
    assert found.model_class() is Author
    by_id = await run(ContentType.objects.get_for_id, found.pk)
    by_key = await run(ContentType.objects.get_by_natural_key, "testapp", "author")
    assert by_id is by_key is found


async def test_several_models():
    def look():
        return ContentType.objects.get_for_models(Author, Book, Tag)

    assert await run(queries, look) == 1
    with on_the_loop():
        assert await run(queries, look) == 0
        ContentType.objects.clear_cache()
        found = await run(look)
    assert {model: each.model_class() for model, each in found.items()} == {
        model: model for model in (Author, Book, Tag)
    }


async def test_tasks_that_create_the_same_content_type():
    """Each has a connection of its own: one of them creates the row, all of them get it."""
    await ContentType.objects.filter(model="tag").adelete()
    start = asyncio.Barrier(5)

    async def look():
        await start.wait()
        return await run(ContentType.objects.get_for_model, Tag)

    found = await asyncio.gather(*(look() for _ in range(5)))
    assert len({each.pk for each in found}) == 1
    assert await ContentType.objects.filter(model="tag").acount() == 1


async def test_a_generic_relation():
    author = await Author.objects.acreate(name="Jane Austen")
    await run(getattr, author, "tags")  # its content type is looked up
    with on_the_loop():
        await author.tags.aadd(Tag(name="English"), bulk=False)
        novelist = await author.tags.acreate(name="novelist")
        assert await author.tags.acount() == 2
        await author.tags.aremove(novelist)
        assert [tag.name async for tag in author.tags.all()] == ["English"]
        await author.tags.aset([await author.tags.acreate(name="Regency")])
        assert [tag.name async for tag in author.tags.all()] == ["Regency"]
        await author.tags.aclear()
        assert not await author.tags.aexists()


async def test_a_generic_foreign_key():
    author = await Author.objects.acreate(name="Jane Austen")
    book = await Book.objects.acreate(title="Emma", author=author)
    for target in (author, book):
        await run(lambda target=target: Tag.objects.create(name="English", target=target))
    tags = Tag.objects.order_by("pk")
    ContentType.objects.clear_cache()
    with on_the_loop():
        assert [tag.target async for tag in tags.prefetch_related("target")] == [author, book]
        loaded = [tag async for tag in tags]
        await aprefetch_related_objects(loaded, "target")
        assert [tag.target for tag in loaded] == [author, book]
        ContentType.objects.clear_cache()
        assert await run(lambda: [tag.target for tag in tags]) == [author, book]
