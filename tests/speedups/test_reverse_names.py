"""`reverse()`: what it answers again is what Django would."""

import functools
import types
from unittest import mock

import pytest
from django.http import HttpResponse, QueryDict
from django.urls import (
    NoReverseMatch,
    URLResolver,
    clear_url_caches,
    get_resolver,
    include,
    path,
    reverse,
    set_script_prefix,
    set_urlconf,
)
from django.urls.converters import StringConverter
from django.utils import translation
from django.utils.functional import lazy
from django.utils.safestring import mark_safe

from .conftest import root_urlconf


class Linked(StringConverter):
    """A converter of a project's, which asks for another URL, or for none."""

    to_url_of = None

    def to_url(self, value):
        return reverse(self.to_url_of).strip("/") if self.to_url_of else value


def view(request, **kwargs):
    return HttpResponse()


def patterns():
    shop = [
        path("", view, name="index"),
        path("<int:pk>/", view, name="item"),
        path("<linked:to>/link/", view, name="link"),
        path("deep/", include(([path("<str:name>/", view, name="leaf")], "deep"))),
    ]
    return [
        path("first/", include((shop, "shop"))),
        path("second/", include((shop, "shop"), namespace="second")),
        path("of/<int:user>/", include((shop, "shop"), namespace="personal")),
        path("at/<linked:to>/", include((shop, "shop"), namespace="at")),
        path("plain/", view, name="plain"),
        path("<str:what>/", view, name="any"),
    ]


@pytest.fixture(autouse=True)
def urlconf():
    with root_urlconf("urls_of_reverse", Linked, patterns) as module:
        yield module


CALLS = [
    ("plain", {}),
    (mark_safe("plain"), {}),
    ("any", {"args": ["x y/?"]}),
    ("any", {"args": ("x",)}),
    ("any", {"args": "x"}),
    ("any", {"args": [mark_safe("<x>")]}),
    ("any", {"args": [["x"]]}),
    ("any", {"kwargs": {"what": "x"}}),
    ("any", {"kwargs": {"what": "x"}, "urlconf": "urls_of_reverse"}),
    ("shop:index", {}),
    ("shop:index", {"args": [], "kwargs": {}}),
    ("shop:index", {"current_app": "second"}),
    ("shop:index", {"current_app": mark_safe("second")}),
    ("shop:index", {"current_app": "nothing"}),
    ("second:index", {}),
    ("second:deep:leaf", {"args": ["n"]}),
    ("shop:deep:leaf", {"args": ["n"], "current_app": "second:deep"}),
    ("personal:item", {"args": [1, 2]}),
    ("personal:item", {"kwargs": {"user": 1, "pk": 2}}),
    ("personal:item", {"kwargs": {"pk": 2, "user": 1}}),
    ("plain", {"query": {"a": "b"}, "fragment": "top"}),
    ("plain", {"query": QueryDict("a=1&a=2")}),
    ("plain", {"fragment": ""}),
    (view, {}),
    ("nothing", {}),
    ("nothing:item", {}),
    ("shop:nothing", {}),
    ("shop:item", {}),
    ("shop:item", {"args": ["x"]}),
    ("shop:item", {"args": [1], "kwargs": {"pk": 1}}),
    ("shop:item", {"args": "12"}),
]


def djangos(name, **arguments):
    """What Django answers, whatever was made before."""
    upstream = URLResolver._reverse_with_prefix.__wrapped__
    with mock.patch.object(URLResolver, "_reverse_with_prefix", upstream):
        return reverse(name, **arguments)


def outcome(function, name, arguments):
    try:
        url = function(name, **arguments)
    except Exception as error:
        return type(error), str(error)
    return type(url), url


@pytest.mark.parametrize(
    ("name", "arguments"), CALLS, ids=lambda of: getattr(of, "__name__", str(of))
)
def test_it_answers_and_raises_what_django_does(name, arguments):
    expected = outcome(djangos, name, arguments)
    for _ in range(3):
        assert outcome(reverse, name, arguments) == expected


def test_arguments_that_can_be_read_once():
    assert [reverse("any", args=iter(["x"])) for _ in range(2)] == ["/x/", "/x/"]
    assert reverse("any", None, iter(["y"])) == "/y/"


def test_values_that_are_equal_and_not_the_same():
    for value, text in ((1, "1"), (True, "True"), (1.0, "1.0"), ("1", "1")):
        assert reverse("any", args=[value]) == f"/{text}/"


def test_another_prefix_language_and_urlconf(urlconf):
    urlconf.urlpatterns.insert(0, path(translation.gettext_lazy("January"), view, name="month"))
    clear_url_caches()
    other = types.ModuleType("other_urls_of_reverse")
    other.urlpatterns = [path("elsewhere/", view, name="plain")]
    for _ in range(2):
        assert reverse("month") == "/January"
        with translation.override("de"):
            assert reverse("month") == "/Januar"
        assert reverse("plain", other) == "/elsewhere/"
        set_urlconf(other)
        try:
            assert reverse("plain") == "/elsewhere/"
        finally:
            set_urlconf(None)
        set_script_prefix("/site/")
        try:
            assert reverse("plain") == "/site/plain/"
        finally:
            set_script_prefix("/")
        assert reverse("plain") == "/plain/"


def test_patterns_that_are_read_anew(urlconf):
    assert reverse("shop:item", args=[7]) == "/first/7/"
    urlconf.urlpatterns[0] = path("new/", include(([path("<int:pk>", view, name="item")], "shop")))
    clear_url_caches()
    assert reverse("shop:item", args=[7]) == "/new/7"


def test_a_resolver_that_reads_its_patterns_again(urlconf):
    assert reverse("plain") == "/plain/"
    resolver = get_resolver()
    at = [pattern.name for pattern in resolver.url_patterns[4:]].index("plain") + 4
    resolver.url_patterns[at] = path("simple/", view, name="plain")
    resolver._populate()
    assert reverse("plain") == "/simple/"


def test_patterns_that_ask_while_they_are_read(urlconf):
    """A route may be lazy text. Django knows no namespace until all are read."""
    answers = []

    def route():
        for function in (djangos, reverse):
            answers.append(outcome(function, "shop:index", {}))
        return "odd/"

    urlconf.urlpatterns.insert(0, path(lazy(route, str)(), view, name="odd"))
    clear_url_caches()
    assert reverse("odd") == "/odd/"
    assert NoReverseMatch in {kind for kind, _ in answers}
    assert answers[::2] == answers[1::2]
    assert reverse("shop:index") == "/first/"


def test_a_converter_that_asks_for_a_url_itself(monkeypatch):
    for to, expected in (
        (None, "/first/x/link/"),
        ("plain", "/first/plain/link/"),
        ("shop:index", "/first/first/link/"),
        (None, "/first/x/link/"),
    ):
        monkeypatch.setattr(Linked, "to_url_of", to)
        assert reverse("shop:link", args=["x"]) == expected
        assert reverse("at:index", args=["x"]) == f"/at{expected.removeprefix('/first')[:-5]}"
    monkeypatch.setattr(Linked, "to_url_of", "nothing")
    with pytest.raises(NoReverseMatch, match="nothing"):
        reverse("shop:link", args=["x"])


@pytest.mark.parametrize("name", ["plain", "shop:index"])
def test_another_package_may_have_a_say(monkeypatch, name):
    """It may put something before what Django calls, for a host name or a tenant."""
    url = reverse(name)
    upstream = URLResolver._reverse_with_prefix
    tenants = iter("abc")

    @functools.wraps(upstream)
    def of_a_tenant(self, *args, **kwargs):
        return f"/{next(tenants)}" + upstream(self, *args, **kwargs)

    monkeypatch.setattr(URLResolver, "_reverse_with_prefix", of_a_tenant)
    assert [reverse(name) for _ in range(2)] == [f"/a{url}", f"/b{url}"]
    clear_url_caches()
    assert reverse(name) == f"/c{url}"


def test_another_package_may_ask_for_more(monkeypatch):
    upstream = URLResolver._reverse_with_prefix

    def asks(self, lookup_view, *args, **kwargs):
        url = upstream(self, lookup_view, *args, **kwargs)
        if lookup_view != "plain":
            assert reverse("plain") == "/plain/"
        return url

    monkeypatch.setattr(URLResolver, "_reverse_with_prefix", asks)
    assert [reverse("shop:item", args=[7]) for _ in range(2)] == ["/first/7/"] * 2
