"""Cache backends of a project's or third party's: where each method runs, and what stays."""

import asyncio
import threading

import pytest
from asgi import Client
from django.core.cache import InvalidCacheBackendError, cache, caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import transaction
from django.http import HttpResponse
from django.template import engines
from django.test import override_settings
from django.urls import path
from hops import count_hops
from staying import urlconf
from testapp.models import Author

from django_aio import blocking, cooperative, run

where: list[str] = []


def note(name):
    on_loop = threading.current_thread() is threading.main_thread()
    where.append(f"{name} {'loop' if on_loop else 'thread'}")


class Minimal(BaseCache):
    """What the documentation asks a backend to define, and a method of its own."""

    def __init__(self, name, params):
        super().__init__(params)
        self.values = {}

    def add(self, key, value, timeout=None, version=None):
        note("add")
        return self.values.setdefault(key, value) is value

    def get(self, key, default=None, version=None):
        note("get")
        return self.values.get(key, default)

    def set(self, key, value, timeout=None, version=None):
        note("set")
        self.values[key] = value

    def touch(self, key, timeout=None, version=None):
        note("touch")
        return key in self.values

    def delete(self, key, version=None):
        note("delete")
        return self.values.pop(key, None) is not None

    def clear(self):
        note("clear")
        self.values.clear()

    def close(self, **kwargs):
        note("close")

    def ttl(self, key):
        """Not a method of Django's."""
        note("ttl")
        return 60

    @classmethod
    def named(cls):
        note("named")
        return cls.__name__


class Constructed(Minimal):
    def __init__(self, name, params):
        note("__init__")
        super().__init__(name, params)


class Asynchronous(Minimal):
    """With coroutine functions of its own."""

    async def aget(self, key, default=None, version=None):
        note("aget")
        return self.values.get(key, default)


class OfDjango(LocMemCache):
    """Overrides a single method of a backend of Django's."""

    def get(self, key, default=None, version=None):
        note("get")
        return super().get(key, default, version)


@cooperative
class Trusted(Minimal):
    pass


@blocking
class Marked(LocMemCache):
    """Has nothing of its own, and says that it blocks."""


class Partly(Minimal):
    @cooperative
    def peek(self, key):
        note("peek")
        return self.values.get(key)


class Databased(Minimal):
    """Uses the ORM."""

    def get(self, key, default=None, version=None):
        return list(Author.objects.values_list("name", flat=True))


@pytest.fixture
def use():
    """Return a function that makes a class the default backend, and returns its cache."""
    where.clear()
    with override_settings():

        def use(backend):
            location = {"BACKEND": f"{__name__}.{backend.__name__}", "LOCATION": backend.__name__}
            override = override_settings(CACHES={"default": location})
            override.enable()
            overrides.append(override)
            found = caches["default"]
            where.clear()
            return found

        overrides = []
        yield use
        for override in overrides:
            override.disable()


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
    "__contains__": ("key",),
}
OWN = {"ttl": ("key",), "named": (), "close": ()}


@pytest.mark.parametrize("name", [*CALLS, *OWN])
async def test_a_synchronous_call_is_one_hop(use, name):
    found = use(Minimal)
    found.values["key"] = 1
    with count_hops() as hops:
        await run(getattr(found, name), *{**CALLS, **OWN}[name])
    assert len(hops.work) == 1
    assert where
    assert all(each.endswith("thread") for each in where)


async def test_in_and_the_proxy(use):
    use(Minimal)
    with count_hops() as hops:
        assert await run(lambda: "key" in cache) is False
    assert (len(hops.work), where) == (1, ["get thread"])


@pytest.mark.parametrize("name", ["get", "set", "add", "touch", "delete", "has_key", "clear"])
async def test_an_inherited_awaitable_call_is_one_hop(use, name):
    found = use(Minimal)
    with count_hops() as hops:
        await getattr(found, f"a{name}")(*CALLS[name])
    assert len(hops.work) == 1
    assert len(where) == 1
    assert where[0].endswith("thread")


async def test_get_or_set_computes_once_for_many(use):
    """On a hit it is one hop; the computation may be a coroutine function."""
    found = use(Minimal)
    begun, go = asyncio.Event(), asyncio.Event()

    async def compute():
        begun.set()
        await go.wait()
        return object

    tasks = [asyncio.create_task(found.aget_or_set("key", compute)) for _ in range(5)]
    await begun.wait()
    go.set()
    assert await asyncio.gather(*tasks) == [object] * 5
    with count_hops() as hops:
        assert await run(found.get_or_set, "key", compute) is object
    assert len(hops.work) == 1


async def test_its_own_coroutine_functions_are_awaited(use):
    found = use(Asynchronous)
    with count_hops() as hops:
        assert await found.aget("key", 2) == 2
    assert (hops, where) == ([], ["aget loop"])


async def test_the_constructor_runs_in_the_thread_too(use):
    use(Constructed)

    def again():
        del caches["default"]
        return caches["default"].values

    assert await run(again) == {}
    assert where == ["__init__ thread"]


@pytest.mark.parametrize("backend", [OfDjango, Marked])
@pytest.mark.parametrize("name", ["get", "set", "get_many", "incr"])
async def test_what_derives_from_djangos_goes_with_the_rest(use, backend, name):
    found = use(backend)
    found.set("key", 1)
    with count_hops() as hops:
        await run(getattr(found, name), *CALLS[name])
    assert len(hops.work) == 1
    assert all(each.endswith("thread") for each in where)


async def test_a_trusted_class_stays_on_the_loop(use):
    found = use(Trusted)
    assert type(found) is Trusted
    with count_hops() as hops:
        await run(found.set, "key", 1)
        assert await found.aget("key") == 1
    assert (hops, where) == ([], ["set loop", "get loop"])


async def test_so_does_one_on_the_list(use):
    with override_settings(AIO={"COOPERATIVE": [__name__]}):
        found = use(Minimal)
        assert type(found) is Minimal
        await run(found.get, "key")
    assert where == ["get loop"]


async def test_and_a_marked_method(use):
    found = use(Partly)
    assert await run(found.peek, "key") is None
    assert where == ["peek loop"]


async def test_the_thread_has_the_chains_connection(db, use):
    found = use(Databased)
    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await Author.objects.acreate(name="unseen")
            assert await run(found.get, "key") == ["unseen"]
            assert await found.aget("key") == ["unseen"]
            raise ZeroDivisionError


def test_plain_code_has_no_thread(use):
    found = use(Minimal)
    with count_hops() as hops:
        for name, arguments in CALLS.items():
            found.values["key"] = 1
            getattr(found, name)(*arguments)
    assert hops == []


def test_identity(use):
    found = use(Minimal)
    cls = type(found)
    assert isinstance(found, Minimal)
    assert (cls.__name__, cls.__qualname__, cls.__module__) == ("Minimal", "Minimal", __name__)
    assert cls.__doc__ == Minimal.__doc__
    assert cls.ttl.__doc__ == Minimal.ttl.__doc__
    del caches["default"]
    assert type(caches["default"]) is cls  # made once


def test_a_factory_is_no_class():
    entry = {"BACKEND": f"{__name__}.factory"}
    with override_settings(CACHES={"default": entry}):
        assert type(caches["default"]) is Minimal


def factory(location, params):
    return Minimal(location, params)


def test_a_backend_that_is_not_there():
    with (
        override_settings(CACHES={"default": {"BACKEND": "nowhere.Cache"}}),
        pytest.raises(InvalidCacheBackendError, match=r"nowhere\.Cache"),
    ):
        caches["default"]


def test_djangos_own_are_djangos():
    entry = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": entry}):
        assert type(caches["default"]) is LocMemCache


# End to end.


@cooperative
def view(request):
    cache.set("key", cache.get("key", 0) + 1)
    template = engines["django"].from_string("{% load cache %}{% cache 60 part %}x{% endcache %}")
    return HttpResponse(template.render())


async def test_a_request(use, db):
    use(Minimal)
    with override_settings(ROOT_URLCONF=urlconf(path("", view)), MIDDLEWARE=[]):
        response = await Client().get("/")
        assert response.text == "x"
    assert where == [
        "get thread",
        "set thread",
        "get thread",
        "set thread",
        "close thread",
    ]
