"""What `manage.py check` says about the policy: what hops and why, the list and its hazards."""

import functools
import queue
import sys
import threading
from types import FunctionType, ModuleType

import pytest
from asgiref.local import Local
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.sessions.backends.base import SessionBase
from django.core.cache import BaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import INFO, WARNING, run_checks
from django.core.management import call_command
from django.dispatch import Signal
from django.http import HttpResponse
from django.test import override_settings
from django.urls import include, path
from django.utils.decorators import async_only_middleware, sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject
from django.views import View

from django_aio.checks import listed, stores, threads
from django_aio.policy import blocking, cooperative

HINT = "add it to AIO['COOPERATIVE']"


def made_in(module, func):
    """The same function, as if `module` had defined it."""
    return FunctionType(func.__code__, {"__name__": module}, func.__name__)


def view(request):
    return HttpResponse()


async def aview(request):
    return HttpResponse()


# Middleware.


def sync_middleware(get_response):
    return get_response


@blocking
def blocking_middleware(get_response):
    return get_response


@async_only_middleware
def coroutine_middleware(get_response):
    return get_response


@sync_and_async_middleware
def both_middleware(get_response):
    return get_response


class Hooks(MiddlewareMixin):
    def process_request(self, request):
        return None

    def process_view(self, request, view, args, kwargs):
        return None

    @cooperative
    def process_response(self, request, response):
        return response

    async def process_template_response(self, request, response):
        return response


class OwnCoroutine(MiddlewareMixin):
    def process_request(self, request):
        return None

    async def __acall__(self, request):
        return await self.get_response(request)


def middleware_messages(*factories):
    paths = [f"{each.__module__}.{each.__name__}" for each in factories]
    with override_settings(MIDDLEWARE=paths):
        return threads.check_middleware(None)


def test_the_default_middleware_does_not_hop():
    assert threads.check_middleware(None) == []


def test_sync_middleware_is_reported():
    (message,) = middleware_messages(sync_middleware)
    assert (message.id, message.level) == ("django_aio.I001", INFO)
    assert message.obj == f"{__name__}.sync_middleware"
    assert message.msg == (
        f"The middleware '{__name__}.sync_middleware' costs every request a thread for the whole "
        f"of it: {__name__} is not on the list AIO['COOPERATIVE']."
    )
    assert HINT in message.hint
    assert "coroutine middleware" in message.hint


def test_hooks_that_hop_are_named():
    (message,) = middleware_messages(Hooks)
    assert "a thread for process_request() and process_view():" in message.msg


@pytest.mark.parametrize(
    "factory", [coroutine_middleware, both_middleware, OwnCoroutine, blocking_middleware]
)
def test_middleware_that_does_not_hop_or_was_marked_is_not_reported(factory):
    assert middleware_messages(factory) == []


def test_middleware_on_the_list_is_not_reported():
    with override_settings(AIO={"COOPERATIVE": [__name__]}):
        assert middleware_messages(sync_middleware, Hooks) == []


def test_middleware_that_cannot_be_imported_is_left_to_django():
    with override_settings(MIDDLEWARE=["nowhere.Middleware"]):
        assert threads.check_middleware(None) == []


# Views.


@pytest.fixture
def urlconf():
    """Return a function that makes these URL patterns the project's."""
    with override_settings():

        def use(*patterns, **names):
            module = ModuleType("urlconf")
            module.urlpatterns = patterns
            vars(module).update(names)
            override = override_settings(ROOT_URLCONF=module)
            override.enable()
            overrides.append(override)

        overrides = []
        yield use
        for override in overrides:
            override.disable()


def test_views_are_grouped_by_module(urlconf):
    named = [made_in("shop.views", view) for _ in range(8)]
    for number, each in enumerate(named):
        each.__qualname__ = f"view{number}"
    nested = include([path("b/", made_in("polls.views", view)), path("c/", aview)])
    urlconf(*(path("", each) for each in named), path("a/", nested))
    polls, shop = threads.check_views(None)
    assert (polls.id, polls.level, polls.obj) == ("django_aio.I002", INFO, "polls.views")
    assert polls.msg == (
        "1 view goes to a thread: polls.views is not on the list AIO['COOPERATIVE'] "
        "(polls.views.view)."
    )
    assert shop.msg == (
        "8 views go to a thread: shop.views is not on the list AIO['COOPERATIVE'] "
        "(shop.views.view0, shop.views.view1, shop.views.view2, shop.views.view3, "
        "shop.views.view4, and 3 more)."
    )
    assert HINT in shop.hint


def test_the_module_in_the_way_is_reported(urlconf):
    """A view on the list, and a decorator that is not."""

    def decorate(func):
        @functools.wraps(func)
        def wrapper(request):
            return func(request)

        return wrapper

    urlconf(path("", decorate(made_in("shop.views", view))))
    with override_settings(AIO={"COOPERATIVE": ["shop"]}):
        (message,) = threads.check_views(None)
    assert message.obj == __name__
    assert f"{__name__} is not on the list AIO['COOPERATIVE'] (shop.views.view)" in message.msg


def test_marked_views_are_not_reported(urlconf):
    class Marked(View):
        def get(self, request):
            return HttpResponse()

    urlconf(path("a/", blocking(made_in("shop", view))), path("b/", cooperative(Marked).as_view()))
    assert threads.check_views(None) == []


def test_error_handlers_are_views(urlconf):
    urlconf(handler404=made_in("shop.errors", view), handler500=aview)
    (message,) = threads.check_views(None)
    assert message.obj == "shop.errors"


def test_the_csrf_failure_view_is_a_view(urlconf):
    urlconf()
    with override_settings(CSRF_FAILURE_VIEW=f"{__name__}.view"):
        (message,) = threads.check_views(None)
    assert message.obj == __name__


def test_a_project_without_urls():
    with override_settings(ROOT_URLCONF=None):
        assert threads.check_views(None) == []


# Backends and receivers.


class Inherits(BaseBackend):
    def get_user(self, user_id):
        return None


class Overrides(BaseBackend):
    async def aauthenticate(self, request, **kwargs):
        return None

    async def aget_user(self, user_id):
        return None


class OfModel(ModelBackend):
    pass


class AsksElsewhere(ModelBackend):
    def authenticate(self, request, **credentials):
        return None


@pytest.mark.parametrize(
    ("backend", "calls"),
    [
        (Inherits, ["get_user() and aauthenticate()"]),
        (Overrides, []),
        (OfModel, []),
        (AsksElsewhere, ["authenticate()"]),
    ],
)
def test_backends(backend, calls):
    name = f"{__name__}.{backend.__name__}"
    with override_settings(AUTHENTICATION_BACKENDS=[name]):
        messages = threads.check_backends(None)
    assert [(message.id, message.obj) for message in messages] == [
        ("django_aio.I003", name) for _ in calls
    ]
    for message, named in zip(messages, calls, strict=True):
        assert message.msg.startswith(f"{named} of the authentication backend")


def test_receivers(monkeypatch):
    signal = Signal()
    module = ModuleType("shop_signals")
    module.sold = signal
    monkeypatch.setitem(sys.modules, "shop_signals", module)
    receivers = [made_in("shop.receivers", lambda **kwargs: None), made_in("django.x", view), aview]
    for receiver in receivers:
        signal.connect(receiver)
    signal.connect(made_in("shop.gone", view))  # collected at once
    messages = [each for each in threads.check_receivers(None) if each.obj.startswith("shop")]
    assert [(message.id, message.obj) for message in messages] == [
        ("django_aio.I004", "shop.receivers")
    ]
    assert "1 receiver goes to a thread" in messages[0].msg


# Caches and sessions.


class Cache(BaseCache):
    def get(self, key, default=None, version=None):
        return default


class HalfAsynchronous(Cache):
    async def aget(self, key, default=None, version=None):
        return default

    async def aset(self, key, value, *args, **kwargs):
        return None


@blocking
class BlockingCache(Cache):
    pass


@cooperative
class TrustedCache(Cache):
    pass


class SessionStore(SessionBase):
    """This module is a session engine."""


def cache_messages(*backends):
    paths = (f"{each.__module__}.{each.__qualname__}" for each in backends)
    caches = {f"cache{number}": {"BACKEND": path} for number, path in enumerate(paths)}
    with override_settings(CACHES={"default": {"BACKEND": LOCMEM}, **caches}):
        return stores.check_caches(None)


LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


def test_a_cache_that_goes_to_a_thread_is_reported():
    whole, half = cache_messages(Cache, HalfAsynchronous)
    assert (whole.id, whole.level, whole.obj) == ("django_aio.I006", INFO, "CACHES['cache0']")
    assert whole.msg == (
        f"The cache 'cache0' ({__name__}.Cache) uses a thread for every call: {__name__} is not on "
        "the list AIO['COOPERATIVE']."
    )
    assert HINT in whole.hint
    assert "aget()" in whole.hint
    assert "for every call but aget() and aset(): " in half.msg


@pytest.mark.parametrize("backend", [BlockingCache, TrustedCache, LocMemCache, FileBasedCache])
def test_other_caches_are_not_reported(backend):
    assert cache_messages(backend) == []


def test_a_cache_on_the_list_is_not_reported():
    with override_settings(AIO={"COOPERATIVE": [__name__]}):
        assert cache_messages(Cache) == []


@pytest.mark.parametrize("path", ["nowhere.Cache", f"{__name__}.view", ""])
def test_what_is_no_cache_class_is_left_to_django(path):
    with override_settings(CACHES={"default": {"BACKEND": path}}):
        assert stores.check_caches(None) == []


def test_a_session_engine_that_goes_to_a_thread_is_reported():
    with override_settings(SESSION_ENGINE=__name__):
        (message,) = stores.check_session_engine(None)
    assert (message.id, message.level, message.obj) == ("django_aio.I007", INFO, "SESSION_ENGINE")
    assert message.msg == (
        f"The session engine '{__name__}' uses a thread to load, save and delete a session: "
        f"{__name__} is not on the list AIO['COOPERATIVE']."
    )
    assert HINT in message.hint


@pytest.mark.parametrize("name", ["db", "cache", "cached_db", "file", "signed_cookies"])
def test_djangos_session_engines_are_not_reported(name):
    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{name}"):
        assert stores.check_session_engine(None) == []


def test_a_session_engine_on_the_list_or_nowhere_is_not_reported():
    with override_settings(SESSION_ENGINE=__name__, AIO={"COOPERATIVE": [__name__]}):
        assert stores.check_session_engine(None) == []
    with override_settings(SESSION_ENGINE="nowhere"):
        assert stores.check_session_engine(None) == []


# The list.


def test_names_that_are_no_modules():
    names = ["django.views", "testapp.trusted", "testapp.nowhere", "no.where", "nowhere", "a..b"]
    with override_settings(AIO={"COOPERATIVE": names}):
        messages = listed.check_names(None)
    assert [message.id for message in messages] == ["django_aio.W003"] * 4
    assert all(message.level == WARNING for message in messages)
    assert "names 'testapp.nowhere'" in messages[0].msg


@pytest.fixture
def module(monkeypatch):
    """An imported module on the list."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    with override_settings(AIO={"COOPERATIVE": ["shop"]}):
        yield module


class State(threading.local):
    pass


@pytest.mark.parametrize("make", [threading.local, State])
def test_thread_locals_are_found(module, make):
    module.state = make()
    (message,) = listed.check_thread_state(None)
    assert (message.id, message.level) == ("django_aio.W004", WARNING)
    assert message.obj == "shop.state"
    assert "asgiref.local.Local" in message.hint


WAITS = {
    "lock": threading.Lock,
    "RLock": threading.RLock,
    "threading.Condition": threading.Condition,
    "threading.BoundedSemaphore": threading.BoundedSemaphore,
    "threading.Event": threading.Event,
    "queue.LifoQueue": queue.LifoQueue,
    "SimpleQueue": queue.SimpleQueue,
}


@pytest.mark.parametrize("kind", WAITS)
def test_locks_are_found(module, kind):
    module.guard = module.again = WAITS[kind]()
    (message,) = listed.check_locks(None)
    assert (message.id, message.level) == ("django_aio.I005", INFO)
    assert message.obj == "shop.guard"
    assert kind in message.msg


def test_harmless_state_is_not_reported(module):
    module.state = Local()
    module.lazy = SimpleLazyObject(lambda: pytest.fail("a lazy object was evaluated"))
    assert listed.check_thread_state(None) == listed.check_locks(None) == []


def test_only_modules_on_the_list_are_inspected(module):
    module.state, module.lock = threading.local(), threading.Lock()
    with override_settings(AIO={"COOPERATIVE": ["shopping", "django"]}):
        assert listed.check_thread_state(None) == listed.check_locks(None) == []


def test_the_command_lists_what_hops(capsys):
    entry = {"BACKEND": f"{__name__}.Cache"}
    with override_settings(SESSION_ENGINE=__name__, CACHES={"default": entry}):
        call_command("check", tags=["async_support"])
    err = capsys.readouterr().err
    assert "CACHES['default']: (django_aio.I006)" in err
    assert "SESSION_ENGINE: (django_aio.I007)" in err
    assert "testapp.views: (django_aio.I002) 2 views go to a thread" in err
    assert "testapp.trusted" not in err


def test_other_commands_do_not_repeat_it():
    assert not [message for message in run_checks() if message.id.startswith("django_aio.I")]
