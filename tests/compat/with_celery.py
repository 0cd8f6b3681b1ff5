"""Tasks sent by views, on commit and at once, run eagerly or by a worker with a memory broker."""

import asyncio
import os
from contextlib import asynccontextmanager

import site_of

os.environ["DJANGO_SETTINGS_MODULE"] = "django.conf"  # Celery looks whether it is set
site_of.configure(
    CELERY_BROKER_URL="memory://",
    CELERY_RESULT_BACKEND="cache+memory://",
    CELERY_BROKER_TRANSPORT_OPTIONS={"polling_interval": 0.01},
    CELERY_WORKER_HIJACK_ROOT_LOGGER=False,
)

from asgiref.sync import async_to_sync, sync_to_async  # noqa: E402
from celery import Celery, chord  # noqa: E402
from celery.contrib.testing.worker import start_worker  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.exceptions import SynchronousOnlyOperation  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import Http404, JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author, Book  # noqa: E402

app = Celery("compat")
app.config_from_object("django.conf:settings", namespace="CELERY")
NAMES = [f"user{number}" for number in range(5)]


@app.task(bind=True)
def write(self, name, title):
    """Fails where the author is not in the database (yet)."""
    task = self.request.id
    with transaction.atomic():
        book = Book.objects.create(title=title, author=Author.objects.get(name=name))
    assert self.request.id == task
    return book.title


@app.task
def count(name):
    """A task that calls coroutines."""

    async def main():
        async with asyncio.TaskGroup() as group:
            books = group.create_task(Book.objects.filter(author__name=name).acount())
            group.create_task(Book.objects.acount())
        return books.result()

    return async_to_sync(main)()


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=2, throws=(ValueError,))
def tries(self, name):
    Author.objects.create(name=f"{name} {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    raise ValueError(f"{name} has failed")


def order(request):
    """The task is sent on commit, if at all: the book is not there before."""
    with transaction.atomic():
        author = Author.objects.create(name=request.user.username)
        write.delay_on_commit(author.name, f"for {author.name}")
        books = author.books.count()
        if "fail" in request.GET:
            raise Http404
    return JsonResponse({"user": author.name, "books": books})


async def aorder(request):
    async with transaction.atomic():
        author = await Author.objects.acreate(name=(await request.auser()).username)
        write.delay_on_commit(author.name, f"for {author.name}")
        books = await author.books.acount()
        if "fail" in request.GET:
            raise Http404
    return JsonResponse({"user": author.name, "books": books})


def wait_for(result):
    return result.get(timeout=20, interval=0.01)


def ask(request):
    author = Author.objects.create(name=request.user.username)
    title = wait_for(write.apply_async((author.name, f"for {author.name}")))
    return JsonResponse({"title": title, "books": wait_for(count.delay(author.name))})


async def aask(request):
    author = await Author.objects.acreate(name=(await request.auser()).username)
    result = await sync_to_async(write.delay)(author.name, f"for {author.name}")
    title = await asyncio.to_thread(wait_for, result)
    result = count.delay(author.name)
    return JsonResponse({"title": title, "books": await asyncio.to_thread(wait_for, result)})


async def unfit(request):
    """What a coroutine cannot do: run a task that queries, or ask for a commit that never comes."""
    results = total.delay([1, "x"]), write.delay("x", "y")
    errors = [type(each.result).__name__ for each in results]
    try:
        write.delay_on_commit("x", "y")
    except SynchronousOnlyOperation as error:
        errors.append(type(error).__name__)
    return JsonResponse({"errors": errors, "total": total.delay([1, 2]).result})


urlpatterns = [
    path("order/", order),
    path("aorder/", aorder),
    path("ask/", ask),
    path("aask/", aask),
    path("unfit/", unfit),
]


@asynccontextmanager
async def worker():
    """A worker in a thread of this process, which runs one task after another."""
    context = start_worker(app, perform_ping_check=False, pool="solo")
    await asyncio.to_thread(context.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def log_in():
    clients = [AsyncClient() for _ in NAMES]
    for client, name in zip(clients, NAMES, strict=True):
        await client.aforce_login(await User.objects.acreate_user(name))
    return clients


async def orders(url):
    """All at once: each writes what it has ordered, unless it is rolled back."""
    clients = await log_in()
    failed = await asyncio.gather(*(client.get(f"{url}?fail") for client in clients))
    assert [answer.status_code for answer in failed] == [404] * len(NAMES)
    assert await Author.objects.acount() == 0
    answers = await asyncio.gather(*(client.get(url) for client in clients))
    assert [answer.json() for answer in answers] == [{"user": n, "books": 0} for n in NAMES]
    if not app.conf.task_always_eager:
        await asyncio.to_thread(wait_for, total.delay([]))  # the last one
    found = Book.objects.order_by("author__name").values_list("title", "author__name")
    assert [row async for row in found] == [(f"for {name}", name) for name in NAMES]


async def eagerly():
    app.conf.task_always_eager = True
    await orders("/order/")
    one = "SynchronousOnlyOperation"
    answer = (await AsyncClient().get("/unfit/")).json()
    assert answer == {"errors": ["TypeError", one, one], "total": 3}


@site_of.needs_us
async def eagerly_by_coroutines():
    app.conf.task_always_eager = True
    await orders("/aorder/")


async def by_worker():
    app.conf.task_always_eager = False
    async with worker():
        await orders("/order/")
        await Author.objects.all().adelete()
        for url in ("/ask/", "/aask/"):
            await Author.objects.all().adelete()
            await User.objects.all().adelete()
            answers = await asyncio.gather(*(client.get(url) for client in await log_in()))
            expected = [{"title": f"for {name}", "books": 1} for name in NAMES]
            assert [answer.json() for answer in answers] == expected
        result = chord([count.s(name) for name in NAMES], total.s()).delay()
        assert await asyncio.to_thread(wait_for, result) == 5
        result = tries.delay("x")
        await asyncio.to_thread(result.get, timeout=20, interval=0.01, propagate=False)
        assert (result.state, repr(result.result)) == ("FAILURE", "ValueError('x has failed')")
        found = Author.objects.filter(name__startswith="x").order_by("name")
        assert [author.name async for author in found] == ["x 0", "x 1", "x 2"]


@site_of.needs_us
async def by_worker_for_coroutines():
    app.conf.task_always_eager = False
    async with worker():
        await orders("/aorder/")


site_of.run(eagerly, eagerly_by_coroutines, by_worker, by_worker_for_coroutines)
