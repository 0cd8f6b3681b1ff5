"""`get_or_set()`: one computation for many who wait for the same key."""

import asyncio

import pytest
from django.core.cache import cache, caches
from django.db import transaction
from django.test import override_settings
from servers import answers, memcached_cache, redis_cache

from django_aio import run

from .conftest import LOCMEM

DUMMY = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}


class Computation:
    """A coroutine function that ends when the test says so, and counts its calls."""

    def __init__(self, value="value"):
        self.value, self.calls, self.begun, self.go = value, 0, asyncio.Event(), asyncio.Event()

    async def __call__(self):
        self.calls += 1
        self.begun.set()
        await self.go.wait()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.fixture(autouse=True)
def _fresh():
    with override_settings(CACHES={"default": {**LOCMEM, "LOCATION": "test_base"}}):
        cache.clear()
        yield


async def begin(compute, count=10, **options):
    """Tasks that all wait for the same computation."""
    tasks = [
        asyncio.create_task(cache.aget_or_set("key", compute, **options)) for _ in range(count)
    ]
    await compute.begun.wait()
    await asyncio.sleep(0)
    return tasks


async def test_many_wait_for_one():
    compute = Computation({"list": [1]})
    tasks = await begin(compute)
    compute.go.set()
    found = await asyncio.gather(*tasks)
    assert found == [{"list": [1]}] * 10
    assert compute.calls == 1
    found[0]["list"].append(2)  # each has a copy
    assert found[1] == {"list": [1]}


async def test_in_the_bridge():
    compute = Computation()
    tasks = [asyncio.create_task(run(cache.get_or_set, "key", compute)) for _ in range(10)]
    await compute.begun.wait()
    compute.go.set()
    assert await asyncio.gather(*tasks) == ["value"] * 10
    assert compute.calls == 1


@pytest.mark.parametrize("entry", [redis_cache(), memcached_cache()])
async def test_with_a_server(entry):
    if not answers("Redis" if "redis" in str(entry) else "memcached"):
        pytest.skip("the server does not answer")
    compute = Computation()
    with override_settings(CACHES={"default": entry}):
        await cache.adelete("key")
        tasks = await begin(compute, 100)
        compute.go.set()
        assert await asyncio.gather(*tasks) == ["value"] * 100
        await cache.adelete("key")
    assert compute.calls == 1


async def test_versions_and_keys_are_told_apart():
    compute = Computation()
    tasks = [
        asyncio.create_task(cache.aget_or_set(key, compute, version=version))
        for key in "ab"
        for version in (1, 2)
        for _ in range(3)
    ]
    await compute.begun.wait()
    compute.go.set()
    await asyncio.gather(*tasks)
    assert compute.calls == 4


async def test_an_error_is_raised_in_all():
    compute = Computation(ValueError("no value"))
    tasks = await begin(compute)
    compute.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in found] == ["no value"] * 10
    assert compute.calls == 1
    compute.value = "now"
    assert await cache.aget_or_set("key", compute) == "now"


async def test_another_takes_over_from_the_cancelled():
    compute = Computation()
    tasks = await begin(compute)
    tasks[0].cancel()
    compute.begun.clear()
    await compute.begun.wait()
    tasks[5].cancel()
    compute.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(value) for value in (found[0], found[5])] == [asyncio.CancelledError] * 2
    assert [value for value in found if value == "value"] == ["value"] * 8
    assert compute.calls == 2


@override_settings(CACHES={"default": DUMMY})
async def test_where_nothing_can_be_stored_each_computes():
    compute = Computation()
    tasks = await begin(compute)
    compute.go.set()
    assert await asyncio.gather(*tasks) == ["value"] * 10
    assert compute.calls == 10


async def test_computations_that_need_each_other():
    """Two that waited for one another would wait for ever."""
    both = asyncio.Barrier(2)

    async def first():
        await both.wait()
        return await cache.aget_or_set("second", lambda: "2, for the first")

    async def second():
        await both.wait()
        return await cache.aget_or_set("first", lambda: "1, for the second")

    async with asyncio.timeout(30):
        await asyncio.gather(cache.aget_or_set("first", first), cache.aget_or_set("second", second))
    assert await cache.aget("first") in ("2, for the first", "1, for the second")


async def test_nobody_waits_inside_a_transaction(db):
    """It may hold what the computation needs."""
    compute = Computation()
    task = asyncio.create_task(cache.aget_or_set("key", compute))
    await compute.begun.wait()
    async with asyncio.timeout(30), transaction.atomic():
        await run(lambda: transaction.get_connection().ensure_connection())
        assert await cache.aget_or_set("key", lambda: "mine") == "mine"
    compute.go.set()
    assert await task == "mine"


@pytest.mark.parametrize(
    "default", ["plain", lambda: "plain", Computation], ids=["value", "function", "coroutine"]
)
async def test_what_the_default_may_be(default):
    if isinstance(default, type):
        default = Computation("plain")
        default.go.set()
    assert await cache.aget_or_set("key", default) == "plain"
    assert await cache.aget("key") == "plain"


async def test_a_default_may_use_the_database(db):
    from testapp.models import Author

    assert await cache.aget_or_set("count", Author.objects.count) == 0


def test_plain_code_is_as_before():
    assert cache.get_or_set("key", lambda: 1) == 1
    assert cache.get_or_set("key", lambda: 2) == 1
    assert caches["default"].get_or_set("none", None) is None


async def test_a_look_that_was_too_early(monkeypatch):
    """It found nothing, and its answer comes when another task has stored the value."""
    first, second = Computation(), Computation("again")
    looked, go_on = asyncio.Event(), asyncio.Event()
    backend = caches["default"]
    look = backend.aget

    async def look_early(*args, **kwargs):
        found = await look(*args, **kwargs)
        looked.set()
        await go_on.wait()
        return found

    task = asyncio.create_task(backend.aget_or_set("key", first))
    await first.begun.wait()
    monkeypatch.setattr(backend, "aget", look_early)
    late = asyncio.create_task(backend.aget_or_set("key", second))
    await looked.wait()
    monkeypatch.setattr(backend, "aget", look)
    first.go.set()
    await task
    go_on.set()
    second.go.set()
    assert await late == "value"
    assert second.calls == 0
