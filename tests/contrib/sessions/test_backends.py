"""Django's session engines stay on the loop; files and a third party's go to a thread."""

import asyncio
import importlib
import threading
from pathlib import Path
from typing import ClassVar

import pytest
from asgi import Client
from django.conf import settings
from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.http import HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path
from hops import count_hops
from staying import own, urlconf

from django_aio import blocking, cooperative, run, wait

BACKENDS = "django.contrib.sessions.backends"
ENGINES = ["db", "cache", "cached_db", "file", "signed_cookies"]
MAIN = threading.main_thread()


def engine(name):
    return importlib.import_module(f"{BACKENDS}.{name}").SessionStore


@pytest.fixture(params=ENGINES)
def name(request, persistent, tmp_path, monkeypatch):
    """Each of Django's engines, in the settings."""
    cache.clear()
    store = engine("file")
    monkeypatch.delattr(store, "_storage_path", raising=False)
    with override_settings(
        SESSION_ENGINE=f"{BACKENDS}.{request.param}", SESSION_FILE_PATH=str(tmp_path)
    ):
        yield request.param
    if "_storage_path" in vars(store):
        del store._storage_path
    cache.clear()


class Gate:
    """Lets the tasks of a test take turns."""

    def __init__(self):
        self.inside = asyncio.Event()
        self.go = asyncio.Event()

    async def stay(self):
        self.inside.set()
        await self.go.wait()


gates: dict[str, Gate] = {}


async def write(request, key):
    """Come in, wait at the gate without having looked at the session, then write."""
    if key in gates:
        await gates[key].stay()
    await request.session.aset(key, 1)
    return HttpResponse()


def write_sync(request, key):
    if key in gates:
        wait(gates[key].stay())
    request.session[key] = 1
    return HttpResponse()


async def write_late(request, key):
    """As `write()`, but the session is loaded before the wait."""
    await request.session.aset(key, 1)
    await gates[key].stay()
    return HttpResponse()


async def tasks(request):
    """Tasks of one request write at the same time, each before the session has been loaded."""
    await asyncio.gather(*(request.session.aset(f"task{number}", 1) for number in range(5)))
    return HttpResponse()


async def flush(request):
    await request.session.aflush()
    return HttpResponse()


async def show(request):
    return JsonResponse(sorted(await request.session.akeys()), safe=False)


async def nothing(request):
    return HttpResponse()


PAGES = urlconf(
    path("write/<key>/", write),
    path("write-sync/<key>/", cooperative(write_sync)),
    path("write-late/<key>/", write_late),
    path("tasks/", tasks),
    path("flush/", flush),
    path("show/", show),
    path("nothing/", nothing),
)


@pytest.fixture(autouse=True)
def _urls():
    gates.clear()
    with override_settings(ROOT_URLCONF=PAGES):
        yield


async def test_awaited(name):
    session = engine(name)()
    await session.aset("a", 1)
    await session.asave()
    key = session.session_key
    again = engine(name)(key)
    assert await again.aget("a") == 1
    assert await again.ahas_key("a")
    assert await again.asetdefault("b", 2) == 2
    await again.aupdate({"c": 3})
    assert await again.apop("a") == 1
    await again.aset_expiry(100)
    assert await again.aget_expiry_age() == 100
    await again.asave()
    assert set(await engine(name)(again.session_key).akeys()) == {"b", "c", "_session_expiry"}
    await again.acycle_key()
    assert again.session_key != key
    assert not await again.aexists(key)
    assert await again.aexists(again.session_key) == (name != "signed_cookies")
    await again.aflush()
    assert again.is_empty()
    await engine(name).aclear_expired()


async def test_called_in_the_bridge(name):
    def use():
        session = engine(name)()
        session["a"] = 1
        session.save()
        again = engine(name)(session.session_key)
        assert again["a"] == 1
        again.cycle_key()
        assert again.exists(again.session_key) == (name != "signed_cookies")
        again.flush()
        engine(name).clear_expired()
        return threading.current_thread()

    assert await run(use) is MAIN


@pytest.mark.parametrize("view", ["write", "write-sync"])
async def test_hops(name, view):
    """Zero, but for the files: one for each operation of the engine, and none that blocks."""
    client = Client()
    await client.get(f"/{view}/first/")
    with count_hops() as hops:
        assert (await client.get(f"/{view}/second/")).status == 200
        assert (await client.get("/show/")).text == '["first", "second"]'
    # Read and write, read.
    assert len(own(hops).work) == (3 if name == "file" else 0)


async def test_a_cookie_alone_costs_nothing(name):
    client = Client()
    await client.get("/write/key/")
    assert settings.SESSION_COOKIE_NAME in client.cookies
    with count_hops() as hops:
        assert (await client.get("/nothing/")).status == 200
    assert not hops


async def test_a_request_sees_what_others_have_saved_before_it_looks(name):
    client = Client()
    await client.get("/write/first/")
    gate = gates["second"] = Gate()
    waiting = asyncio.create_task(client.get("/write/second/"))
    await gate.inside.wait()
    other = Client()
    other.cookies.update(client.cookies)
    await other.get("/write/third/")
    if name == "signed_cookies":  # the session is the cookie
        client.cookies.update(other.cookies)
    gate.go.set()
    await waiting
    expected = '["first", "second", "third"]' if name != "signed_cookies" else '["first", "second"]'
    assert (await client.get("/show/")).text == expected


@pytest.mark.parametrize("view", ["write", "write-sync"])
async def test_requests_that_look_in_turn_lose_nothing(name, view):
    if name == "signed_cookies":
        pytest.skip("each client has its own")
    client = Client()
    await client.get("/write/first/")
    several = []
    for number in range(4):
        gates[f"key{number}"] = Gate()
        several.append(asyncio.create_task(client.get(f"/{view}/key{number}/")))
    for gate in gates.values():
        await gate.inside.wait()
    for gate, task in zip(gates.values(), several, strict=True):
        gate.go.set()
        assert (await task).status == 200
    gates.clear()
    assert (await client.get("/show/")).text == '["first", "key0", "key1", "key2", "key3"]'


async def test_tasks_of_one_request_load_the_session_once(name):
    client = Client()
    await client.get("/write/first/")
    await client.get("/tasks/")
    expected = '["first", "task0", "task1", "task2", "task3", "task4"]'
    assert (await client.get("/show/")).text == expected


async def test_a_session_that_was_deleted_meanwhile_is_not_revived(name):
    if name == "signed_cookies":
        pytest.skip("the session is the cookie")
    client = Client()
    await client.get("/write/first/")
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    gate = gates["second"] = Gate()
    other = Client()
    other.cookies.update(client.cookies)
    waiting = asyncio.create_task(client.get("/write-late/second/"))
    await gate.inside.wait()
    await other.get("/flush/")
    gate.go.set()
    assert (await waiting).status == 400
    assert not await engine(name)().aexists(key)


async def test_a_loader_that_is_cancelled_leaves_the_others_to_load():
    class Store(SessionBase):
        loads = 0
        started = asyncio.Event()

        async def aload(self):
            Store.loads += 1
            if Store.loads == 1:
                Store.started.set()
                await asyncio.Event().wait()
            return {"a": 1}

    session = Store("some-long-key")
    first = asyncio.create_task(session.aget("a"))
    await Store.started.wait()
    others = [asyncio.create_task(session.aget("a")) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*others) == [1, 1, 1]
    assert first.cancelled()
    assert Store.loads == 2
    assert "_aio_loading" not in vars(session)


def corrupt(file):
    Path(file).write_text("!corrupt")


async def test_corrupt_data_is_an_empty_session(name):
    client = Client()
    await client.get("/write/first/")
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    if name in ("db", "cached_db"):
        await Session.objects.filter(session_key=key).aupdate(session_data="!corrupt")
        await cache.aclear()
    elif name == "file":
        corrupt(engine("file")()._key_to_file(key))
    elif name == "cache":
        await cache.aclear()
    else:
        client.cookies[settings.SESSION_COOKIE_NAME] = "corrupt"
    assert (await client.get("/show/")).text == "[]"


# A third party's engine.


class Foreign(db.SessionStore):
    """Loads and saves by itself, and has the rest of Django's."""

    calls: ClassVar[list[tuple[str, threading.Thread]]] = []

    def _note(self, name):
        Foreign.calls.append((name, threading.current_thread()))

    def load(self):
        self._note("load")
        return super().load()

    def save(self, must_create=False):
        self._note("save")
        return super().save(must_create)

    def get_expiry_age(self, **kwargs):
        self._note("get_expiry_age")
        return super().get_expiry_age(**kwargs)

    @classmethod
    def clear_expired(cls):
        Foreign.calls.append(("clear_expired", threading.current_thread()))
        return super().clear_expired()

    @cooperative
    def is_empty(self):
        Foreign.calls.append(("is_empty", threading.current_thread()))
        return super().is_empty()


SessionStore = Foreign  # this module is an engine


@pytest.fixture
def foreign(persistent):
    Foreign.calls.clear()
    with override_settings(SESSION_ENGINE=__name__):
        yield Foreign


def where(calls, *names):
    """Whether the named calls were made in the thread of the loop."""
    return {name: thread is MAIN for name, thread in calls if not names or name in names}


async def test_a_foreign_engine_works_in_a_thread(foreign):
    client = Client()
    assert (await client.get("/write-sync/first/")).status == 200
    foreign.calls.clear()
    assert (await client.get("/write-sync/second/")).status == 200
    expected = {"load": False, "save": False, "get_expiry_age": False, "is_empty": True}
    assert where(foreign.calls) == expected
    # Awaited, Django's own methods are.
    assert (await client.get("/show/")).text == '["first", "second"]'


async def test_a_foreign_engine_in_the_bridge_keeps_its_identity(foreign):
    session = await run(foreign, "some-long-session-key")
    assert isinstance(session, foreign)
    cls = type(session)
    assert (cls.__name__, cls.__module__) == (foreign.__name__, foreign.__module__)
    assert session.key_salt == foreign("some-long-session-key").key_salt
    assert type(await run(foreign)) is cls
    assert type(await run(cls)) is cls
    await run(lambda: type(session).clear_expired())
    assert where(foreign.calls, "clear_expired") == {"clear_expired": False}


async def test_its_operations_hop_once_each(foreign):
    client = Client()
    await client.get("/write-sync/first/")
    with count_hops() as hops:
        await client.get("/write-sync/second/")
    # load, get_expiry_age, save
    assert len(own(hops).work) == 3


async def test_its_cookie_alone_costs_nothing(foreign):
    client = Client()
    await client.get("/write-sync/first/")
    with count_hops() as hops:
        assert (await client.get("/nothing/")).status == 200
    assert not hops


async def test_a_foreign_engine_on_the_list_stays_on_the_loop(foreign):
    with override_settings(AIO={"COOPERATIVE": [__name__]}):
        client = Client()
        await client.get("/write-sync/first/")
        assert set(where(foreign.calls).values()) == {True}
        assert type(await run(foreign)) is foreign


def test_outside_the_bridge_nothing_changes(foreign):
    session = foreign()
    assert type(session) is foreign
    session["a"] = 1
    with count_hops() as hops:
        session.save()
    assert not hops


class Plain(SessionBase):
    """Synchronous throughout: its awaitable methods are those of the base class."""

    places: ClassVar[list[bool]] = []

    def load(self):
        Plain.places.append(threading.current_thread() is MAIN)
        return {"a": 1}


@blocking
class Marked(Plain):
    pass


@pytest.mark.parametrize("store", [Plain, Marked])
async def test_awaitable_methods_of_the_base_class_ask_the_policy(store):
    Plain.places.clear()
    assert await store("some-long-key").aget("a") == 1
    assert await run(lambda: store("some-long-key")["a"]) == 1
    assert Plain.places == [False, False]
    with override_settings(AIO={"COOPERATIVE": [__name__]}):
        assert await store("some-long-key").aget("a") == 1
    assert Plain.places[-1] is (store is Plain)
