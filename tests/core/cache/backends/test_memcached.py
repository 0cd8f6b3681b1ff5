"""Memcached on the loop: one client for each call, what fails, what is left."""

import asyncio
import importlib.util
import socket
import threading

import pytest
from django.core.cache import caches
from django.test import override_settings
from hops import count_hops
from pymemcache import Client
from pymemcache.exceptions import MemcacheServerError, MemcacheUnexpectedCloseError
from servers import ADDRESSES, memcached_cache

from django_aio import loops, run
from django_aio.core.cache.backends import memcached

from .conftest import require, server

any_cache = pytest.mark.parametrize("cache", [memcached_cache], indirect=True)


@pytest.fixture
def admin():
    """A connection beside the cache's."""
    require("memcached")
    client = Client(ADDRESSES["memcached"])
    yield client
    client.close()


def at(*ports, **options):
    locations = [f"127.0.0.1:{port}" for port in ports]
    return override_settings(
        CACHES={"default": {**memcached_cache(**options), "LOCATION": locations}}
    )


async def clients(cache):
    return await run(lambda: cache._cache)


@any_cache
async def test_each_call_has_a_client_of_its_own(cache):
    await asyncio.gather(*(cache.aset(f"key{n}", n) for n in range(200)))
    assert await asyncio.gather(*(cache.aget(f"key{n}") for n in range(200))) == list(range(200))
    assert 1 < len((await clients(cache))._idle) <= memcached.MOST_CLIENTS
    await cache.adelete_many([f"key{n}" for n in range(200)])


@any_cache
async def test_they_stay_for_the_next_request(cache):
    await cache.aset("key", 1)
    (client,) = (await clients(cache))._idle
    await cache.aclose()
    caches["default"] = caches.create_connection("default")  # as another request has
    assert await caches["default"].aget("key") == 1
    assert (await clients(caches["default"]))._idle == [client]
    await cache.adelete("key")


@any_cache
async def test_the_cancelled_take_nobody_elses_answer(cache):
    await cache.aset_many({f"key{n}": n for n in range(100)})
    for sent in range(6):
        tasks = [asyncio.create_task(cache.aget(f"key{n}")) for n in range(100)]
        for _ in range(sent):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[1::2] == list(range(100))[1::2]
    assert not (await clients(cache))._places.locked()
    await cache.adelete_many([f"key{n}" for n in range(100)])


def test_nothing_is_left_of_a_loop():
    """Nor is anything unclosed, which would be an error."""
    closed = threading.Semaphore(0)

    async def serve(reader, writer):
        while await reader.readline():
            writer.write(b"END\r\n")
        closed.release()

    async def use():
        async with server(serve) as port:
            with at(port):
                await caches["default"].aget("key")
                await loops.close_store()
                await asyncio.to_thread(closed.acquire)

    asyncio.run(use())


async def test_a_connection_that_the_server_closed():
    """It has been closed while it was idle: the next call connects again, without an error."""
    connections = asyncio.Queue()

    async def once(reader, writer):
        await reader.readline()
        writer.write(b"END\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        connections.put_nowait(writer)

    async with server(once) as port:
        with at(port):
            for _ in range(3):
                assert await caches["default"].aget("key") is None
                await connections.get()
    assert connections.empty()


async def test_a_server_that_goes_away_before_it_answers():
    async def vanish(reader, writer):
        await reader.readline()

    async with server(vanish) as port:
        with at(port), pytest.raises(MemcacheUnexpectedCloseError):
            await caches["default"].aget("key")


async def test_a_server_that_never_answers():
    async def silence(reader, writer):
        await reader.read()

    async with server(silence) as port:
        with at(port, timeout=0.05), pytest.raises(socket.timeout):
            await caches["default"].aget("key")


async def test_a_cancelled_call_closes_its_connection():
    asked, gone = asyncio.Event(), asyncio.Event()

    async def silence(reader, writer):
        await reader.readline()
        asked.set()
        assert await reader.read() == b""
        gone.set()

    async with server(silence) as port:
        with at(port):
            task = asyncio.create_task(caches["default"].aget("key"))
            await asked.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await gone.wait()


async def test_no_server():
    async with server(None) as port:
        pass
    with at(port), pytest.raises(ConnectionRefusedError):
        await caches["default"].aget("key")


async def test_a_dead_server_is_passed_over():
    """As pymemcache's options say; the keys go to the other one."""
    require("memcached")
    async with server(None) as port:
        pass
    options = {"ignore_exc": True, "retry_attempts": 0, "dead_timeout": 600}
    with at(port, ADDRESSES["memcached"][1], **options):
        cache = caches["default"]
        for _ in range(2):
            for n in range(20):
                await cache.aset(f"key{n}", n)
        assert [await cache.aget(f"key{n}") for n in range(20)] == list(range(20))
        await cache.adelete_many([f"key{n}" for n in range(20)])


@any_cache
async def test_what_is_not_a_pickle(cache, admin):
    admin.set(cache.make_key("broken"), b"nonsense", flags=1)
    assert await cache.aget("broken") is cache.get("broken") is None  # pymemcache logs it
    await cache.adelete("broken")


@any_cache
async def test_more_than_a_server_takes(cache):
    for _ in range(2):
        with pytest.raises(MemcacheServerError, match="too large"):
            await cache.aset("key", "x" * 2_000_000)
    await cache.aset("key", "y" * 900_000)
    assert await cache.aget("key") == "y" * 900_000
    await cache.adelete("key")


@any_cache
async def test_a_host_name_is_looked_up_in_a_thread(cache):
    entry = {**memcached_cache(), "LOCATION": "localhost:{1}".format(*ADDRESSES["memcached"])}
    with override_settings(CACHES={"default": entry}), count_hops() as hops:
        await caches["default"].aget("key")
        looked_up = len(hops.work)
        await caches["default"].aget("key")
    assert looked_up == len(hops.work) == 1


class OwnSockets:
    """A socket module of the project's own: the loop cannot wait for what it makes."""

    def __getattr__(self, name):
        return getattr(socket, name)


@pytest.mark.parametrize("cache", [memcached_cache(socket_module=OwnSockets())], indirect=True)
async def test_sockets_of_the_project_work_in_a_thread(cache):
    with count_hops() as hops:
        await cache.aset("key", 1)
        assert await cache.aget("key") == 1
    assert len(hops.work) == 2
    await cache.adelete("key")


@pytest.mark.skipif(importlib.util.find_spec("pylibmc") is None, reason="pylibmc is not installed")
@pytest.mark.parametrize("cache", [memcached_cache("PyLibMCCache")], indirect=True)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its own, on 3.13
async def test_pylibmc_works_in_a_thread(cache):
    with count_hops() as hops:
        await cache.aset("key", {"a": 1})
        assert await cache.aget("key") == {"a": 1}
    assert len(hops.work) == 2
    found = await asyncio.gather(*(cache.aget_many(["key"]) for _ in range(50)))
    assert found == [{"key": {"a": 1}}] * 50
    await cache.adelete("key")
