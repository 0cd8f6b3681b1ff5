"""One queryset that several tasks evaluate."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from testapp.models import Author, Book

from django_aio import in_bridge, run, wait

pytestmark = pytest.mark.usefixtures("db")


async def filled():
    for number in range(3):
        author = await Author.objects.acreate(name=f"a{number}")
        await Book.objects.abulk_create([Book(title=f"b{n}", author=author) for n in range(2)])
    return Author.objects.order_by("pk").prefetch_related("books")


async def read(queryset):
    return [(author.name, len(author.books.all())) async for author in queryset]


ALL = [(f"a{number}", 2) for number in range(3)]


async def test_all_have_what_is_prefetched():
    queryset = await filled()
    with CaptureQueriesContext(connection) as queries:
        assert await asyncio.gather(*(read(queryset) for _ in range(5))) == [ALL] * 5
    assert len(queries) == 2


async def test_threads_take_part():
    for _ in range(3):
        queryset = await filled()

        def in_thread(queryset=queryset):
            return [(author.name, len(author.books.all())) for author in queryset]

        evaluations = [read(queryset), sync_to_async(in_thread)(), asyncio.to_thread(in_thread)]
        assert await asyncio.gather(*evaluations, *(read(queryset) for _ in range(2))) == [ALL] * 5
        await Author.objects.all().adelete()


async def test_a_thread_does_not_wait_for_ever(monkeypatch):
    """The one who fetches may want something done in it."""
    monkeypatch.setattr("django_aio.db.models.LIMIT", 0.05)
    queryset = await filled()

    def slowly(execute, *statement):
        if in_bridge():
            wait(sync_to_async(len)(queryset))
        return execute(*statement)

    with connection.execute_wrapper(slowly):
        assert await asyncio.wait_for(read(queryset), 10) == ALL


async def test_of_raw_sql_too():
    await filled()
    queryset = Author.objects.raw("SELECT * FROM testapp_author").prefetch_related("books")
    found = await asyncio.gather(*(read(queryset) for _ in range(3)))
    assert [sorted(each) for each in found] == [ALL] * 3


async def test_when_the_first_is_cancelled_the_next_one_fetches():
    queryset = await filled()
    tasks = [asyncio.create_task(read(queryset)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [ALL, ALL]


async def test_an_error_is_everybodys():
    queryset = (await filled()).extra(where=["nonsense"])
    answers = await asyncio.gather(*(read(queryset) for _ in range(3)), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] in (
        ["ProgrammingError"] * 3,
        ["OperationalError"] * 3,
    )


async def test_a_queryset_that_evaluates_itself():
    """As a manager's code might, while it makes the instances."""
    queryset = await filled()
    seen = []

    def look(execute, *args):
        if not seen:
            seen.append("looks")
            seen.append(len(queryset))
        return execute(*args)

    def evaluate():
        with connection.execute_wrapper(look):
            return len(queryset)

    assert await run(evaluate) == 3
    assert seen == ["looks", 3]


async def test_of_a_package_that_sets_only_what_django_reads():
    class Full(QuerySet):
        def __init__(self, rows):
            self._result_cache = rows
            self._prefetch_related_lookups = False

    assert await run(list, Full([1, 2])) == [1, 2] == list(Full([1, 2]))
    assert [row async for row in Full([1, 2])] == [1, 2]
