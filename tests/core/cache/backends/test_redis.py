"""Redis on the loop: one connection for all, what fails, what is left."""

import asyncio
import contextlib
import pickle
import threading

import pytest
import redis
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.test import override_settings
from hops import count_hops
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import ADDRESSES, PREFIX, redis_cache

from django_aio import loops, run

from .conftest import require, server

NAMED = redis_cache(client_name=PREFIX)
named = pytest.mark.parametrize("cache", [NAMED], indirect=True)
any_cache = pytest.mark.parametrize("cache", [redis_cache], indirect=True)


@pytest.fixture
def admin():
    """A connection beside the cache's."""
    require("Redis")
    with redis.Redis(*ADDRESSES["Redis"]) as client:
        yield client


def connections_of(admin, count):
    """The cache's connections, when they are so many: the server closes them in its own time."""
    pause = threading.Event()
    for _ in range(1000):
        found = [client for client in admin.client_list() if client["name"] == PREFIX]
        if len(found) == count:
            return found
        pause.wait(0.01)
    raise AssertionError(f"{len(found)} connections: {found}")


def at(port, **options):
    return override_settings(
        CACHES={"default": {**redis_cache(**options), "LOCATION": f"redis://127.0.0.1:{port}"}}
    )


@named
async def test_one_connection_for_all_tasks(cache, admin):
    await asyncio.gather(*(cache.aset(f"key{n}", n) for n in range(300)))
    assert await asyncio.gather(*(cache.aget(f"key{n}") for n in range(300))) == list(range(300))
    connections_of(admin, 1)
    await cache.adelete_many([f"key{n}" for n in range(300)])


@named
def test_nothing_is_left_of_a_loop(cache, admin):
    for _ in range(3):
        asyncio.run(cache.aset("key", 1))
        asyncio.run(cache.aset_many({"key": 2}))
        connections_of(admin, 0)
    asyncio.run(cache.adelete("key"))


@any_cache
async def test_an_idle_loop_has_no_task(cache):
    await cache.aset("key", 1)
    await cache.adelete("key")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@any_cache
async def test_the_cancelled_take_nobody_elses_answer(cache):
    await cache.aset_many({f"key{n}": n for n in range(100)})
    for sent in range(4):  # how far the commands get before the cancellation
        tasks = [asyncio.create_task(cache.aget(f"key{n}")) for n in range(100)]
        for _ in range(sent):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[1::2] == list(range(100))[1::2]
        assert await cache.aget("key7") == 7
    await cache.adelete_many([f"key{n}" for n in range(100)])


@named
async def test_a_connection_that_the_server_closed(cache, admin):
    await cache.aset("key", 1)
    (connection,) = connections_of(admin, 1)
    admin.client_kill_filter(_id=connection["id"])
    while not await run(is_closed, cache):  # noqa: ASYNC110 - the loop reads that by itself
        await asyncio.sleep(0)
    assert await cache.aget("key") == 1
    await cache.adelete("key")


def is_closed(cache):
    """Whether the loop has noticed."""
    connection = cache._cache.get_client()._shared._connection
    return connection._reader is None or connection._reader.at_eof()


def until_asked(times=1):
    """Hand everything to Redis and back, but hang up on the first commands that want a value."""
    left = [times]

    async def forward(reader, writer):
        from_redis, to_redis = await asyncio.open_connection(*ADDRESSES["Redis"])

        async def back():
            while data := await from_redis.read(2**16):
                writer.write(data)

        answering = asyncio.create_task(back())
        with contextlib.closing(to_redis):
            while data := await reader.read(2**16):
                if b"GET" in data and left[0]:
                    left[0] -= 1
                    break
                to_redis.write(data)
            answering.cancel()
            await asyncio.wait([answering])

    return forward


async def test_a_server_that_goes_away_before_it_answers():
    require("Redis")
    async with server(until_asked()) as port:
        with at(port):
            failures = await asyncio.gather(
                *(caches["default"].aget("key") for _ in range(5)), return_exceptions=True
            )
            assert await caches["default"].aget("key") is None
    assert [type(failure) for failure in failures] == [exceptions.ConnectionError] * 5
    assert len(set(map(id, failures))) == 5  # each has a traceback of its own


async def test_a_retry_policy_is_followed():
    require("Redis")
    async with server(until_asked(times=2)) as port:
        with at(port, retry=Retry(NoBackoff(), 2)):
            assert await caches["default"].aget("key", "default") == "default"


async def test_a_server_that_never_answers():
    async def silence(reader, writer):
        await reader.read()

    async with server(silence) as port:
        with at(port, socket_timeout=0.05), pytest.raises(exceptions.TimeoutError):
            await caches["default"].aget("key")


async def test_no_server():
    async with server(None) as port:
        pass
    with at(port), pytest.raises(exceptions.ConnectionError):
        await caches["default"].aget("key")


@any_cache
async def test_an_error_that_redis_answers(cache):
    await cache.aset("text", "not a number")
    answers = await asyncio.gather(
        run(cache.incr, "text"), cache.aget("text"), return_exceptions=True
    )
    assert isinstance(answers[0], exceptions.ResponseError)
    assert answers[1] == "not a number"
    await cache.adelete("text")


@any_cache
async def test_what_is_not_a_pickle(cache, admin):
    admin.select(9)
    admin.set(cache.make_key("broken"), b"nonsense")
    with pytest.raises(pickle.UnpicklingError):
        await cache.aget("broken")
    await cache.adelete("broken")


@any_cache
async def test_a_blocking_command_holds_up_nobody(cache):
    def push():
        return cache._cache.get_client(write=True).lpush(key, "value")

    def pop():
        return cache._cache.get_client(write=True).blpop([key], timeout=30)

    key = cache.make_key("queue")
    waiting = asyncio.create_task(run(pop))
    with count_hops() as hops:
        for _ in range(20):
            await cache.aget("anything")
        assert not waiting.done()
        await run(push)
        assert await waiting == (key.encode(), b"value")
    assert hops == []


@any_cache
async def test_transactions_and_scripts_have_a_connection_of_their_own(cache):
    def work():
        client = cache._cache.get_client(write=True)
        with client.pipeline() as pipeline:
            pipeline.watch(key)
            pipeline.multi()
            pipeline.set(key, 1)
            pipeline.incrby(key, 4)
            answers = pipeline.execute()
        assert client.eval("return redis.call('GET', KEYS[1])", 1, key) == b"5"
        return answers

    key = cache.make_key("counter")
    with count_hops() as hops:
        assert await run(work) == [True, 5]
        await cache.adelete("counter")
    assert hops == []


async def test_writes_go_to_the_first_server_and_reads_to_the_others(admin):
    host = "redis://{}:{}".format(*ADDRESSES["Redis"])
    with override_settings(
        CACHES={"default": {**redis_cache(), "LOCATION": [f"{host}/9", f"{host}/10"]}}
    ):
        cache = caches["default"]
        await cache.aset("key", 1)
        assert await cache.aget("key") is None
        admin.select(10)
        admin.set(cache.make_key("key"), 2)
        assert await cache.aget("key") == 2
        await cache.adelete("key")
        admin.delete(cache.make_key("key"))


class OwnPool(redis.ConnectionPool):
    """What a project may have written: there is no asynchronous form of it."""


@pytest.mark.parametrize(
    "cache",
    [redis_cache(pool_class=OwnPool), redis_cache(pool_class=f"{__name__}.OwnPool")],
    indirect=True,
)
async def test_a_pool_class_of_the_project_works_in_a_thread(cache):
    with count_hops() as hops:
        await cache.aset("key", 1)
        assert await cache.aget("key") == 1
        await cache.aset_many({"key": 2}, timeout=20)
    assert len(hops.work) == 3
    await cache.adelete("key")


@pytest.mark.parametrize(
    "cache",
    [
        redis_cache(pool_class="redis.BlockingConnectionPool", max_connections=2),
        redis_cache(retry=Retry(NoBackoff(), 3), max_connections=5, health_check_interval=30),
        redis_cache(decode_responses=False, socket_timeout=None, protocol=3),
    ],
    indirect=True,
)
async def test_options(cache):
    with count_hops() as hops:
        await asyncio.gather(*(cache.aset_many({f"key{n}": n}) for n in range(2)))
        assert await cache.aget_many(["key0", "key1"]) == {"key0": 0, "key1": 1}
        await cache.adelete_many(["key0", "key1"])
    assert hops == []


@any_cache
async def test_a_guest_thread_has_the_plain_client(cache):
    await cache.aset("key", 1)
    assert await sync_to_async(cache.get)("key") == 1
    await cache.adelete("key")


@named
async def test_a_server_that_stops_closes_its_connections(cache, admin):
    await cache.aset("key", 1)
    connections_of(admin, 1)
    await loops.close_store()
    connections_of(admin, 0)
    await cache.adelete("key")
