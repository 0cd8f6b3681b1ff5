"""The file-based cache: one hand-over for each operation, nothing else than stock's answers."""

import asyncio
import contextlib
import copy
import pickle
import shutil
import threading

import pytest
from asgiref.sync import iscoroutinefunction
from blockbuster import BlockBuster
from django.core.cache import caches
from django.core.cache.backends.filebased import FileBasedCache
from django.db import connection, transaction
from django.db.models import QuerySet
from django.test import override_settings
from hops import count_hops
from testapp.models import Author

from django_aio import run, threads
from django_aio.core.cache.backends import filebased

from .test_operations import awaited, bridged, operate

CALLS = {
    "get": ("key",),
    "set": ("key", 1),
    "add": ("key", 1),
    "touch": ("key",),
    "delete": ("key",),
    "has_key": ("key",),
    "clear": (),
    "get_many": (["key", "other", "third"],),
    "set_many": ({"key": 1, "other": 2},),
    "delete_many": (["key", "other"],),
    "incr": ("key",),
    "decr": ("key",),
    "incr_version": ("key",),
    "decr_version": ("key",),
}


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(directory):
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    with override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": str(directory)}}):
        yield caches["default"]


@contextlib.contextmanager
def nothing_blocks():
    """Any call of the block that blocks the loop raises, and so fails the test."""
    buster = BlockBuster()
    buster.activate()
    try:
        yield
    finally:
        buster.deactivate()


@pytest.mark.parametrize("way", [awaited, bridged])
@pytest.mark.parametrize("name", CALLS)
async def test_one_hand_over_for_each_call(cache, way, name):
    cache.set("key", 1)
    call = way(cache)
    with nothing_blocks(), count_hops() as hops:
        await call(name, *CALLS[name])
    assert len(hops.work) == 1


@pytest.mark.parametrize("way", [awaited, bridged])
async def test_as_stock(cache, way):
    with nothing_blocks():
        found = await operate(way(cache))

    async def synchronous(name, *args, **kwargs):
        return getattr(cache, name)(*args, **kwargs)

    assert found == await operate(synchronous)


async def test_a_blocking_call_would_be_noticed(cache, monkeypatch):
    """What the other tests rely on."""
    monkeypatch.setattr(threads, "in_bridge", lambda: False)
    with nothing_blocks(), pytest.raises(Exception, match="Blocking call"):
        await cache.aset("key", 1)


def test_plain_code_has_no_thread(cache):
    with count_hops() as hops:
        for name, arguments in CALLS.items():
            cache.set("key", 1)
            getattr(cache, name)(*arguments)
    assert hops == []


async def test_the_directory_is_made_once_in_a_thread(cache, directory):
    cache.set("key", 1)
    filebased._made.discard(cache._dir)

    def again():
        del caches["default"]
        return caches["default"].get("key")

    with count_hops() as hops:
        assert await run(again) == 1
        assert len(hops.work) == 2
        assert await run(again) == 1
        assert len(hops.work) == 3
    shutil.rmtree(directory)  # anybody may
    await cache.aset("key", 2)
    assert await run(again) == 2


class Gated(FileBasedCache):
    """Stops in the thread, in the middle of a set(), until the test says so."""

    begun, go = threading.Event(), threading.Event()

    def _write_content(self, *args):
        self.begun.set()
        assert self.go.wait(10)
        super()._write_content(*args)


async def test_a_cancelled_task_waits_for_the_file_to_be_whole(directory):
    cache = Gated(str(directory), {})
    task = asyncio.create_task(run(FileBasedCache.set, cache, "key", 1))
    assert await asyncio.to_thread(Gated.begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    Gated.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await run(FileBasedCache.get, cache, "key") == 1


async def test_tasks_do_not_wait_for_each_other(directory):
    """As many threads as calls: the barrier would never open in one."""
    barrier = threading.Barrier(4, timeout=10)

    class Meeting(FileBasedCache):
        def _write_content(self, *args):
            barrier.wait()
            super()._write_content(*args)

    cache = Meeting(str(directory), {})
    await asyncio.gather(*(run(FileBasedCache.set, cache, f"key{n}", n) for n in range(4)))


async def test_corrupt_files_are_an_error_as_ever(cache, directory):
    cache.set("key", 1)
    (file,) = directory.iterdir()
    file.write_bytes(b"no pickle")
    with pytest.raises(pickle.UnpicklingError):
        await cache.aget("key")


STORED = {
    "set": ("key", Author.objects.all()),
    "add": ("key", Author.objects.all()),
    "set_many": ({"key": Author.objects.all()},),
}


@pytest.mark.parametrize("way", [awaited, bridged])
@pytest.mark.parametrize("name", STORED)
async def test_a_queryset_is_evaluated_on_the_loop(db, cache, monkeypatch, way, name):
    threads = set()
    upstream = QuerySet._fetch_all

    def fetch_all(self):
        if self._result_cache is None:
            threads.add(threading.current_thread())
        upstream(self)

    monkeypatch.setattr(QuerySet, "_fetch_all", fetch_all)
    await Author.objects.acreate(name="an author")
    await way(cache)(name, *copy.deepcopy(STORED[name]))
    assert threads == {threading.main_thread()}
    assert [author.name for author in await cache.aget("key")] == ["an author"]


async def test_one_inside_a_value_is_evaluated_in_the_transaction(db, cache):
    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await Author.objects.acreate(name="unseen")
            await cache.aset("key", [Author.objects.all()])
            await run(cache.set, "again", [Author.objects.all()])
            raise ZeroDivisionError
    for key in ("key", "again"):
        (authors,) = await cache.aget(key)
        assert [author.name for author in authors] == ["unseen"]


async def test_a_queryset_leaves_no_connection_in_the_thread(db, cache):
    await Author.objects.acreate(name="seen")
    left = await connections_of_threads(cache)
    assert left == []


async def connections_of_threads(cache):
    """Store a queryset; return what connection the threads of the executor then have."""
    await cache.aset("authors", [Author.objects.all()])

    def look():
        return connection.connection

    found = await asyncio.gather(*(asyncio.to_thread(look) for _ in range(4)))
    return [each for each in found if each is not None]


async def test_errors_keep_their_traceback(cache):
    class Unfit:
        def __reduce__(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await run(cache.set, "key", Unfit())
    assert {"_write_content", "__reduce__"} <= {entry.name for entry in caught.traceback}


@pytest.mark.parametrize("name", ["aget_many", "aset_many", "adelete_many", "aincr"])
def test_the_awaitable_forms_say_what_they_are(name):
    method = getattr(FileBasedCache, name)
    assert iscoroutinefunction(method)
    assert method.__name__ == name
    assert method.__doc__
