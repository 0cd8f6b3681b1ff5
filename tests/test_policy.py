"""Whose synchronous code runs on the loop: the list, the marks, what lies behind a view."""

import abc
import contextlib
import functools
import gc
import threading
import time
import weakref
from types import FunctionType

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_required, user_passes_test
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings
from django.urls import resolve
from django.utils.decorators import method_decorator
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject
from django.views import View

from django_aio import conf, policy, run
from django_aio.policy import blocking, cooperative, in_thread, is_cooperative, obstacle

TRUSTED, UNTRUSTED = "polls.views", "pollsters"


@pytest.fixture(autouse=True)
def listed():
    with override_settings(AIO={"COOPERATIVE": ["polls", "rest_framework.views"]}):
        yield


def function(module):
    """A function that `module` defines."""

    def func(request=None):
        pass

    return FunctionType(func.__code__, {"__name__": module}, "func", func.__defaults__)


def cls(module, *bases, **attributes):
    """A class that `module` defines."""
    return type("Class", bases, {"__module__": module, **attributes})


# The list.


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("polls", True),
        ("polls.views", True),
        ("polls.views.api", True),
        ("pollsters", False),
        ("pollsters.polls", False),
        ("my.polls", False),
        ("rest_framework.views", True),
        ("rest_framework", False),
        ("rest_framework.viewsets", False),
        ("django.contrib.admin", True),
        ("django_aio", True),
        ("django_filters", False),
        ("djangorestframework", False),
        ("builtins", False),
    ],
)
def test_a_name_stands_for_the_module_and_all_below_it(module, expected):
    assert is_cooperative(function(module)) is expected


def test_the_setting_is_read_again_when_it_is_overridden():
    func = function("shop.views")
    assert not is_cooperative(func)
    with override_settings(AIO={"COOPERATIVE": ["shop"]}):
        assert is_cooperative(func)
    assert not is_cooperative(func)


@pytest.mark.parametrize("setting", [{}, {"COOPERATIVE": []}, {"COOPERATIVE": ("polls",)}])
def test_the_list_may_be_empty_or_a_tuple(setting):
    with override_settings(AIO=setting):
        assert is_cooperative(function("django.views"))
        assert is_cooperative(function("polls")) is bool(setting.get("COOPERATIVE"))


def test_without_the_setting_only_django_is_trusted():
    with override_settings(AIO=None):
        del settings.AIO
        assert is_cooperative(function("django.views"))
        assert not is_cooperative(function("polls"))


# And what the message is to show.
WRONG = [
    *((setting, setting) for setting in ("polls", ["polls"], None, {"COOPERTIVE": ["polls"]})),
    *(({"COOPERATIVE": names}, names) for names in ("polls", None, [1], [""], 1)),
    *(({"SPEEDUPS": value}, value) for value in ("no", 0)),
]


@pytest.mark.parametrize(("setting", "named"), WRONG)
def test_a_wrong_setting_is_named(setting, named):
    with (
        override_settings(AIO=setting),
        pytest.raises(ImproperlyConfigured, match=r"AIO(\['\w+'\]| setting) must be") as caught,
    ):
        conf.speedups()
        is_cooperative(function("polls"))
    assert repr(named) in str(caught.value)


# Marks.


@pytest.mark.parametrize("module", [TRUSTED, UNTRUSTED])
def test_marks_win_over_the_list(module):
    assert is_cooperative(cooperative(function(module)))
    assert not is_cooperative(blocking(function(module)))


def test_marks_return_the_same_object():
    func = function(TRUSTED)
    assert blocking(func) is cooperative(func) is func


def test_the_last_mark_counts():
    assert not is_cooperative(blocking(cooperative(function(TRUSTED))))


@pytest.mark.parametrize(("mark", "expected"), [(cooperative, True), (blocking, False)])
def test_marks_of_classes_and_methods(mark, expected):
    module = UNTRUSTED if expected else TRUSTED
    marked_class = mark(cls(module, __call__=function(module)))
    assert is_cooperative(marked_class) is expected
    assert is_cooperative(marked_class()) is expected
    marked_method = cls(module, method=mark(function(module)))
    assert is_cooperative(marked_method().method) is expected
    assert is_cooperative(marked_method()) is not expected


def test_a_mark_passes_through_a_decorator():
    assert not is_cooperative(login_required(blocking(function(TRUSTED))))


@pytest.mark.parametrize(
    "behind",
    [
        lambda mark, module: functools.partial(mark(function(module))),
        lambda mark, module: mark(cls(module, View)).as_view(),
        lambda mark, module: mark(cls(module, method=function(module)))().method,
        lambda mark, module: admin_views(mark(cls(module, admin.ModelAdmin)))[0],
    ],
    ids=["partial", "class-based view", "method", "admin view"],
)
def test_a_mark_on_what_is_behind(behind):
    assert is_cooperative(behind(cooperative, UNTRUSTED))
    assert not is_cooperative(behind(blocking, TRUSTED))


# Callables of all kinds.


def admin_views(model_admin):
    """The views that a ModelAdmin adds to the URLconf."""
    site = admin.AdminSite()
    site.register(Group, model_admin)
    views = [url.callback for include in site.get_urls() for url in urls_of(include)]
    return [view for view in views if hasattr(view, "model_admin")]


def urls_of(include):
    return getattr(include, "url_patterns", [])


def site_views(site):
    """The views of an admin site itself."""
    views = [getattr(url, "callback", None) for url in site().get_urls()]
    return [view for view in views if hasattr(view, "admin_site")]


KINDS = {
    "function": function,
    "partial": lambda module: functools.partial(functools.partial(function(module)), 1),
    "class": cls,
    "instance": lambda module: cls(module, __call__=function(module))(),
    "method": lambda module: cls(module, method=function(module))().method,
    "class method": lambda module: cls(module, method=classmethod(function(module))).method,
    # A method that Django defines calls what the project's class overrides.
    "inherited method": lambda module: cls(module, MiddlewareMixin)(function("django")).__call__,
    "decorated view": lambda module: login_required(function(module)),
    "class-based view": lambda module: cls(module, View).as_view(),
    "admin view": lambda module: admin_views(cls(module, admin.ModelAdmin))[0],
    "admin site view": lambda module: site_views(cls(module, admin.AdminSite))[0],
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_module_behind_decides(make):
    assert is_cooperative(make(TRUSTED))
    assert not is_cooperative(make(UNTRUSTED))


def test_the_admin_of_django_itself_is_trusted():
    assert is_cooperative(resolve("/admin/").func)
    assert is_cooperative(resolve("/admin/auth/user/").func)


# What is behind a decorator: all of it is asked.

DECORATE = """
def decorate(view):
    {wraps}
    def wrapper(request):
        return view(request)
    return wrapper
"""


def decorator(module, wraps="@functools.wraps(view)"):
    """A decorator that `module` defines."""
    names = {"__name__": module, "functools": functools}
    exec(DECORATE.format(wraps=wraps), names)
    return names["decorate"]


@pytest.mark.parametrize("wraps", ["@functools.wraps(view)", ""], ids=["wraps", "closure"])
@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (TRUSTED, TRUSTED, True),
        (TRUSTED, UNTRUSTED, False),
        (UNTRUSTED, TRUSTED, False),
        ("django.utils", TRUSTED, True),
    ],
)
def test_a_decorator_and_its_view_are_asked(outer, inner, expected, wraps):
    view = decorator("django.views")(decorator(outer, wraps)(function(inner)))
    assert is_cooperative(view) is expected


@pytest.mark.parametrize(("module", "expected"), [(TRUSTED, True), (UNTRUSTED, False)])
def test_decorators_of_class_based_views_are_asked(module, expected):
    on_method = cls(TRUSTED, View, get=method_decorator(decorator(module))(function(TRUSTED)))
    assert is_cooperative(on_method.as_view()) is expected
    on_class = method_decorator([decorator(module)], name="dispatch")(cls(TRUSTED, View))
    assert is_cooperative(on_class.as_view()) is expected


@pytest.mark.parametrize(
    ("of_class", "of_action", "expected"),
    [(TRUSTED, TRUSTED, True), (UNTRUSTED, TRUSTED, False), (TRUSTED, UNTRUSTED, False)],
)
def test_viewsets_of_rest_framework_are_asked(of_class, of_action, expected):
    """They have no `view_class`, and `__wrapped__` is the framework's `dispatch()`."""
    viewset = cls(of_class, View, listing=decorator(of_action)(function(of_class)))
    view = functools.update_wrapper(function("rest_framework.views"), View.dispatch)
    view.cls, view.actions, view.__module__ = viewset, {"get": "listing"}, of_class
    assert is_cooperative(view) is expected


@pytest.mark.parametrize(("module", "expected"), [(TRUSTED, True), (UNTRUSTED, False)])
def test_bases_are_asked(module, expected):
    derived = cls(TRUSTED, cls(module, View), abc.ABC)
    assert is_cooperative(derived) is expected
    assert is_cooperative(derived.as_view()) is expected


@pytest.mark.parametrize(("module", "expected"), [(TRUSTED, True), (UNTRUSTED, False)])
@pytest.mark.parametrize(
    "wrap",
    [
        transaction.atomic,
        functools.cache,
        lambda func: user_passes_test(func)(function(TRUSTED)),
        lambda func: functools.partial(function(TRUSTED), func),
    ],
    ids=["atomic", "cache", "test of user_passes_test", "argument of a partial"],
)
def test_wrappers_of_the_standard_library_and_django(wrap, module, expected):
    assert is_cooperative(wrap(function(module))) is expected


def test_a_context_manager_used_as_a_decorator_is_asked():
    manager = cls(UNTRUSTED, contextlib.ContextDecorator)
    assert not is_cooperative(manager()(function(TRUSTED)))


def test_functions_of_the_standard_library_block():
    assert not is_cooperative(time.sleep)
    assert not is_cooperative(functools.partial(time.sleep, 1))


def test_coroutine_functions_need_no_trust():
    async def view(request):
        pass

    assert is_cooperative(view)
    assert is_cooperative(async_to_sync(view))


def test_a_closure_that_refers_to_itself_ends():
    def recursive(n):
        return recursive(n - 1) if n else cell

    cell = SimpleLazyObject(lambda: pytest.fail("a lazy object was evaluated"))
    assert not is_cooperative(recursive)


# Marks and decorators.


def test_a_cooperative_mark_covers_what_is_inside():
    assert is_cooperative(cooperative(decorator(UNTRUSTED)(function(UNTRUSTED))))


def test_a_cooperative_mark_does_not_cover_what_is_outside():
    """`functools.wraps` copies the mark: it was not the decorator that was vouched for."""
    assert is_cooperative(decorator(TRUSTED)(cooperative(function(UNTRUSTED))))
    assert not is_cooperative(decorator(UNTRUSTED)(cooperative(function(UNTRUSTED))))


def test_a_blocking_mark_inside_wins():
    view = decorator(TRUSTED)(decorator(TRUSTED)(blocking(function(TRUSTED))))
    assert not is_cooperative(cooperative(view))


def test_a_mark_given_late_counts():
    view = function(TRUSTED)
    outer = decorator(TRUSTED)(view)
    assert is_cooperative(outer)
    blocking(view)
    assert not is_cooperative(outer)


def test_a_blocking_handler_blocks_its_view():
    assert not is_cooperative(cls(TRUSTED, View, post=blocking(function(TRUSTED))).as_view())


def test_a_cooperative_class_does_not_cover_its_subclasses():
    marked = cooperative(cls(UNTRUSTED, View, get=function(UNTRUSTED)))
    assert is_cooperative(marked.as_view())
    assert is_cooperative(cls(TRUSTED, marked).as_view())
    assert not is_cooperative(cls(UNTRUSTED, marked).as_view())


def test_a_blocking_class_blocks_its_subclasses():
    assert not is_cooperative(cls(TRUSTED, blocking(cls(TRUSTED))))


def test_a_marked_instance():
    instance = cls(UNTRUSTED, __call__=function(UNTRUSTED), method=function(UNTRUSTED))()
    assert is_cooperative(cooperative(instance))
    assert is_cooperative(instance.method)


# Reasons, and the log.


def test_the_obstacle_is_named():
    view = decorator(TRUSTED)(function(UNTRUSTED))
    assert str(obstacle(view)) == "pollsters is not on the list AIO['COOPERATIVE']"
    assert obstacle(view).name == "pollsters.function.<locals>.func"
    marked = obstacle(blocking(cls(TRUSTED, View)).as_view())
    assert str(marked) == "polls.views.Class is marked @blocking"


def test_nothing_is_kept_alive():
    def view(request):
        pass

    is_cooperative(view)
    reference = weakref.ref(view)
    del view
    gc.collect()
    assert reference() is None


async def test_a_hop_is_logged_once(caplog, monkeypatch):
    monkeypatch.setattr(policy, "_logged", set())
    caplog.set_level("DEBUG", "django_aio.policy")
    func = function(UNTRUSTED)
    for _ in range(2):
        await run(in_thread(func, "receiver"))
        await policy.by_policy(func)()
    assert caplog.messages == [
        "The receiver pollsters.function.<locals>.func runs in a thread: pollsters is not on the "
        "list AIO['COOPERATIVE']."
    ]


def test_outside_the_bridge_nothing_goes_to_a_thread():
    assert in_thread(threading.get_ident)() == threading.get_ident()


@pytest.mark.parametrize(("module", "expected"), [(TRUSTED, True), (UNTRUSTED, False)])
def test_a_class_that_pretends_to_be_djangos_is_known_by_its_functions(module, expected):
    """`type()` gives it the module of Django's metaclass."""
    made = type("Made", (admin.ModelAdmin,), {"has_view_permission": function(module)})
    assert made.__module__.startswith("django.")
    assert is_cooperative(made) is expected
