"""What the tests of cache backends share."""

import asyncio
import contextlib

import pytest
import servers
from django.core.cache import caches
from django.test import override_settings
from hops import count_hops

LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@pytest.fixture
def cache(request):
    """The cache of an entry of CACHES, which a test gives as the fixture's parameter."""
    entry = request.param() if callable(request.param) else request.param
    if needed := next((name for name in ("Redis", "memcached") if name.lower() in str(entry)), ""):
        require(needed)
    with override_settings(CACHES={"default": entry}):
        yield caches["default"]


def require(server):
    if not servers.answers(server):
        pytest.skip(f"{server} does not answer")


@contextlib.contextmanager
def no_hops():
    """Nothing in the block goes to a thread."""
    with count_hops() as hops:
        yield
    assert hops == []


@contextlib.asynccontextmanager
async def server(handle):
    """A server that does what the test wants: its port on localhost."""
    tasks = set()

    async def connected(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(asyncio.CancelledError):
            await handle(reader, writer)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
