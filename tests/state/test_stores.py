"""Caches and sessions: each method, on each backend and of each engine."""

import asyncio
import contextlib
import functools
import os
import time

import pytest
from asgiref.sync import iscoroutinefunction
from blockbuster import BlockingError
from django.contrib.sessions.backends.file import SessionStore as FileSessionStore
from django.core.cache import caches
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from django.utils.module_loading import import_string
from servers import answers, memcached_cache, redis_cache
from staying import on_the_loop

from django_aio import run

from .tables import (
    assert_same,
    colours,
    documented,
    hop,
    hops_of,
    nothing,
)


async def test_the_detectors_see_what_they_are_there_for():
    with pytest.raises(AssertionError, match="submit"), on_the_loop():
        await asyncio.to_thread(nothing)
    with pytest.raises(BlockingError), on_the_loop():
        await run(time.sleep, 0.001)
    with pytest.raises(AssertionError, match="row: 1, not 0"):
        assert_same({"row": 0}, {"row": await hops_of(nothing, hop)})


SERVERS = {
    # In a database that it may clear, though the tests of several processes run at the same time.
    "Redis": functools.partial(redis_cache, 10 + os.getpid() % 6),
    "memcached": memcached_cache,
}
CLASSES = {
    "database": "db.DatabaseCache",
    "local memory": "locmem.LocMemCache",
    "dummy": "dummy.DummyCache",
    "files": "filebased.FileBasedCache",
}


# Caches: each method, on each backend.

CACHE = {
    "get": ("there",),
    "set": ("there", 1),
    "add": ("new", 1),
    "delete": ("there",),
    "touch": ("there", 60),
    "has_key": ("there",),
    "incr": ("there",),
    "decr": ("there",),
    "get_many": (["there", "other"],),
    "set_many": ({"there": 1, "other": 1},),
    "delete_many": (["there", "other"],),
    "get_or_set": ("new", 1),
    "incr_version": ("there",),
    "decr_version": ("there", 0),
    "clear": (),
}
CACHE_ROWS = colours((name, f"a{name}") for name in CACHE)


def cache_settings(backend, folder):
    if backend in SERVERS:
        return SERVERS[backend]()
    return {
        "BACKEND": f"django.core.cache.backends.{CLASSES[backend]}",
        "LOCATION": str(folder) if backend == "files" else "cache_of_the_hops",
    }


@pytest.fixture(params=[*SERVERS, *CLASSES])
def backend(request, tmp_path, db):
    """The default cache is of that backend. Skipped where its server does not answer."""
    name = request.param
    if name in SERVERS and not answers(name):
        pytest.skip(f"{name} does not answer")
    with override_settings(CACHES={"default": cache_settings(name, tmp_path)}):
        if name == "database":
            call_command("createcachetable")
        yield name
        if name == "database":
            with connections["default"].cursor() as cursor:
                cursor.execute("DROP TABLE cache_of_the_hops")


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_caches(backend, colour):
    rows = documented("hops-caches")
    expected = {name: figures[backend == "files"] for name, figures in rows.items()}
    assert list(expected) == list(CACHE_ROWS)
    cache, found = caches["default"], {}

    def prepare():
        cache.set_many({"there": 1, "other": 1})
        cache.delete("new")

    for row, methods in CACHE_ROWS.items():
        if methods[0] == "clear" and backend == "memcached":
            found[row] = []  # it would empty the server, whoever else uses it
            continue
        found[row] = []
        # The dummy cache has no key to increment.
        with contextlib.suppress(ValueError) if backend == "dummy" else contextlib.nullcontext():
            call = with_arguments(getattr(cache, methods[colour]), *CACHE[methods[0]])
            found[row] = await hops_of(prepare, call)
    await run(cache.delete_many, ["there", "other", "new"])
    assert_same(expected, found)


def with_arguments(method, *arguments):
    """A call without arguments, of the method's colour."""
    if not iscoroutinefunction(method):
        return lambda: method(*arguments)

    async def call():
        return await method(*arguments)

    return call


# Sessions: each method, of each engine.

SESSION = {
    ("get", "aget"): ("visits",),
    ("__setitem__", "aset"): ("visits", 2),
    ("pop", "apop"): ("visits",),
    ("setdefault", "asetdefault"): ("visits", 2),
    ("update", "aupdate"): ({"visits": 2},),
    ("has_key", "ahas_key"): ("visits",),
    ("keys", "akeys"): (),
    ("load", "aload"): (),
    ("save", "asave"): (),
    ("create", "acreate"): (),
    ("exists", "aexists"): ("0123456789abcdef0123456789abcdef",),
    ("delete", "adelete"): (),
    ("cycle_key", "acycle_key"): (),
    ("flush", "aflush"): (),
    ("clear_expired", "aclear_expired"): (),
}
SESSION_ROWS = {
    name.replace("`__setitem__()`", "`session[key] = value`"): methods
    for name, methods in colours(SESSION).items()
}
ENGINES = ["db", "cache", "cached_db", "signed_cookies", "file"]


@pytest.fixture
def session_files(tmp_path, monkeypatch):
    """A folder of its own for sessions in files, whose class remembers one."""
    monkeypatch.setattr(FileSessionStore, "_storage_path", str(tmp_path), raising=False)


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
@pytest.mark.parametrize("engine", ENGINES)
async def test_sessions(engine, colour, session_files):
    rows = documented("hops-sessions")
    expected = {name: figures[engine == "file"] for name, figures in rows.items()}
    assert list(expected) == list(SESSION_ROWS)
    store_class = import_string(f"django.contrib.sessions.backends.{engine}.SessionStore")
    stores, found = [], {}

    def prepare():
        stored = store_class()
        stored["visits"] = 1
        stored.save()
        stores.append(store_class(stored.session_key))

    for row, methods in SESSION_ROWS.items():
        call = latest(stores, methods[colour], SESSION[methods])
        found[row] = await hops_of(prepare, call)
    assert_same(expected, found)


def latest(objects, name, arguments):
    """A call of the last object's method."""
    if not name.startswith("a"):  # no method of that name but the awaitable ones
        return lambda: getattr(objects[-1], name)(*arguments)

    async def call():
        return await getattr(objects[-1], name)(*arguments)

    return call
