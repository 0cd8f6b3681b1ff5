"""Whose synchronous code runs on the loop: the list, the marks, what lies behind a view."""

import functools

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import resolve
from django.utils.deprecation import MiddlewareMixin
from django.views import View

from django_aio.policy import blocking, cooperative, is_cooperative

TRUSTED, UNTRUSTED = "polls.views", "pollsters"


@pytest.fixture(autouse=True)
def listed():
    with override_settings(AIO={"COOPERATIVE": ["polls", "rest_framework.views"]}):
        yield


def function(module):
    """A function that `module` defines."""

    def func(request=None):
        pass

    func.__module__ = module
    return func


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


WRONG = [
    "polls",
    ["polls"],
    None,
    {"COOPERATIVE": "polls"},
    {"COOPERATIVE": None},
    {"COOPERATIVE": [1]},
    {"COOPERATIVE": [""]},
    {"COOPERATIVE": 1},
    {"COOPERTIVE": ["polls"]},
]


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_is_named(setting):
    with (
        override_settings(AIO=setting),
        pytest.raises(ImproperlyConfigured, match="The AIO setting must be") as caught,
    ):
        is_cooperative(function("polls"))
    assert repr(setting) in str(caught.value)


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
