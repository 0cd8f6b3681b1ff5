"""Every operation of a cache with a socket: by its awaitable form, in the bridge, and as stock."""

import sys

import pytest
from servers import memcached_cache, redis_cache

from django_aio import run

from .conftest import no_hops

BACKENDS = [redis_cache, memcached_cache]


def bridged(cache):
    """Call the synchronous methods in the bridge."""

    async def call(name, *args, **kwargs):
        return await run(getattr(cache, name), *args, **kwargs)

    return call


def awaited(cache):
    """Await the forms with a prefix."""

    async def call(name, *args, **kwargs):
        return await getattr(cache, f"a{name}")(*args, **kwargs)

    return call


async def operate(call):
    """Do everything; return all answers."""
    answers = [
        await call("set", "text", "é" * 3),
        await call("get", "text"),
        await call("get", "nothing", "default"),
        await call("get", "nothing"),
        await call("set", "number", 41, timeout=None),
        await call("incr", "number"),
        await call("decr", "number", 2),
        await call("add", "text", "another"),
        await call("add", "added", b"\x00\xff", timeout=100),
        await call("get", "added"),
        await call("add", "gone", 1, timeout=0),
        await call("has_key", "gone"),
        await call("set", "gone", 1, timeout=0),
        await call("has_key", "text"),
        await call("touch", "text", 1000),
        await call("touch", "text", None),
        await call("touch", "nothing"),
        await call("set_many", {"a": 1, "b": [1, {"c": None}]}, timeout=50),
        await call("set_many", {}),
        await call("get_many", ["a", "b", "nothing"]),
        await call("delete", "a"),
        await call("delete", "a"),
        await call("delete_many", ["b", "nothing"]),
        await call("get_many", ["a", "b"]),
        await call("set", "versioned", "v1", version=1),
        await call("incr_version", "versioned", version=1),
        await call("get", "versioned", version=2),
        await call("decr_version", "versioned", version=2),
        await call("get_or_set", "computed", lambda: "once"),
        await call("get_or_set", "computed", lambda: "twice"),
        await call("set", "large", "x" * 200_000),
        await call("get", "large"),
    ]
    for name in ("incr", "incr_version"):
        with pytest.raises(ValueError, match="not found"):
            await call(name, "nothing")
    await call("delete_many", ["text", "number", "added", "versioned", "computed", "large"])
    return answers


@pytest.mark.parametrize("cache", BACKENDS, indirect=True)
@pytest.mark.parametrize("way", [awaited, bridged])
async def test_as_stock_and_without_threads(cache, way):
    call = way(cache)
    await call("get", "warm")
    with no_hops():
        found = await operate(call)

    async def synchronous(name, *args, **kwargs):
        return getattr(cache, name)(*args, **kwargs)

    assert found == await operate(synchronous)


@pytest.mark.parametrize("cache", BACKENDS, indirect=True)
async def test_each_side_reads_what_the_other_wrote(cache):
    values = ["text", b"bytes", 2**70, -1, True, 1.5, None, {"é": [1, (2,)]}, "x" * 5000]
    for number, value in enumerate(values):
        await cache.aset(f"loop{number}", value)
        cache.set(f"plain{number}", value)
    for number, value in enumerate(values):
        assert cache.get(f"loop{number}", "missing") == value
        assert await cache.aget(f"plain{number}", "missing") == value
    cache.delete_many([f"{side}{n}" for n in range(len(values)) for side in ("loop", "plain")])


@pytest.mark.parametrize("cache", BACKENDS, indirect=True)
def test_plain_code_has_the_plain_client(cache):
    cache.set("key", 1)
    assert "django_aio" not in type(cache._cache).__module__
    if hasattr(cache._cache, "get_client"):
        assert type(cache._cache.get_client()) is sys.modules["redis"].Redis
    cache.delete("key")


@pytest.mark.parametrize("cache", BACKENDS, indirect=True)
async def test_keys_that_a_backend_refuses(cache):
    if "Memcache" not in type(cache).__name__:
        pytest.skip("Redis takes any key")
    with pytest.raises(Exception, match="memcached"):
        await cache.aget("x" * 300)
    assert await cache.aget("fine") is None
