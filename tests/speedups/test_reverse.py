"""URLs that are made once: the same as Django's, for every resolver, language and converter."""

import types
import uuid

import pytest
from django.http import HttpResponse
from django.urls import (
    NoReverseMatch,
    URLResolver,
    clear_url_caches,
    get_resolver,
    include,
    path,
    re_path,
    reverse,
    set_script_prefix,
)
from django.urls.converters import StringConverter
from django.utils import translation

from django_aio.speedups import reverse as kept

from .conftest import root_urlconf


class Moody(StringConverter):
    """A project's, whose answer depends on more than the value."""

    mood = "a"
    refused = ()

    def to_url(self, value):
        if value in self.refused:
            raise ValueError
        return f"{self.mood}-{value}"


def view(request, **kwargs):
    return HttpResponse()


def patterns():
    inner = [path("<int:pk>/", view, name="item"), path("<moody:name>/", view, name="moody")]
    return [
        path("", view, name="root"),
        path("inner/", include((inner, "inner"))),
        path("plain/<str:name>/", view, name="plain"),
        path("id/<uuid:pk>/", view, name="id"),
        path("two/", view, name="two"),
        path("two/<int:pk>/", view, name="two"),
        path("more/<int:page>/", view, {"size": 3}, name="more"),
        re_path(r"^optional/(?:(?P<pk>[0-9]+)/)?$", view, name="optional"),
        path("any/<name>/", view, name="any"),
    ]


@pytest.fixture(autouse=True)
def urlconf():
    with root_urlconf("urls_of_a_test", Moody, patterns) as module:
        yield module


@pytest.fixture
def made(monkeypatch):
    """The arguments of each URL that is looked for in the patterns."""
    calls = []
    keep = kept.Reversed.keep

    def noting(self, key, url):
        calls.append(key[0])
        keep(self, key, url)

    monkeypatch.setattr(kept.Reversed, "keep", noting)
    return calls


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("root", (), {}),
        ("inner:item", (7,), {}),
        ("inner:item", (), {"pk": 7}),
        ("inner:item", ("7",), {}),
        ("inner:moody", ("x",), {}),
        ("plain", ("äö?%",), {}),
        ("plain", ("%41",), {}),
        ("id", (uuid.UUID(int=5),), {}),
        ("two", (), {}),
        ("two", (4,), {}),
        ("more", (2,), {}),
        ("more", (), {"page": 2, "size": 3}),
        ("optional", (), {}),
        ("optional", (9,), {}),
    ],
)
def test_it_is_the_url_that_django_makes(name, args, kwargs):
    upstream = URLResolver._reverse_with_prefix.__wrapped__
    *namespaces, last = name.split(":")
    resolver, prefix = get_resolver(), "/"
    for namespace in namespaces:
        pattern, resolver = resolver.namespace_dict[namespace]
        prefix += pattern
    expected = upstream(resolver, last, prefix, *args, **kwargs)
    for _ in range(3):
        assert reverse(name, args=args, kwargs=kwargs) == expected


def test_a_url_is_made_once(made):
    assert {reverse("inner:item", args=[7]) for _ in range(3)} == {"/inner/7/"}
    assert {reverse("inner:item", kwargs={"pk": 8}) for _ in range(3)} == {"/inner/8/"}
    assert made == ["item"] * 2


def test_arguments_that_are_equal_and_not_the_same(made):
    for value, text in ((1, "1"), (True, "True"), (1.0, "1.0"), (1, "1")):
        assert reverse("any", args=[value]) == f"/any/{text}/"
    assert made == ["any"]


def test_a_converter_of_a_project_is_asked_every_time(monkeypatch):
    for mood in "aba":
        monkeypatch.setattr(Moody, "mood", mood)
        assert reverse("inner:moody", args=["x"]) == f"/inner/{mood}-x/"
    monkeypatch.setattr(Moody, "to_url", lambda self, value: [][0])
    with pytest.raises(IndexError):
        reverse("inner:moody", args=["x"])


def test_a_converter_may_refuse_what_it_took(monkeypatch):
    assert reverse("inner:moody", args=["x"]) == "/inner/a-x/"
    monkeypatch.setattr(Moody, "refused", ("x",))
    with pytest.raises(NoReverseMatch):
        reverse("inner:moody", args=["x"])


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("inner:item", ("x",), {}),
        ("nothing", (), {}),
        ("two", (1, 2), {}),
        ("more", (), {"size": 3}),
    ],
)
def test_what_is_not_found_is_an_error_every_time(name, args, kwargs):
    for _ in range(2):
        with pytest.raises(NoReverseMatch):
            reverse(name, args=args, kwargs=kwargs)


def test_each_language_has_its_own(urlconf):
    urlconf.urlpatterns.append(path(translation.gettext_lazy("January"), view, name="month"))
    clear_url_caches()
    for language, expected in (("de", "/Januar"), ("es", "/enero"), ("de", "/Januar")):
        with translation.override(language):
            assert reverse("month") == expected
    assert reverse("month") == "/January"


def test_another_urlconf_and_another_prefix(urlconf):
    other = types.ModuleType("other_urls_of_a_test")
    other.urlpatterns = [path("elsewhere/", view, name="root")]
    for _ in range(2):
        assert reverse("root") == "/"
        assert reverse("root", urlconf=other) == "/elsewhere/"
    set_script_prefix("/site/")
    try:
        assert reverse("two", args=[3]) == "/site/two/3/"
    finally:
        set_script_prefix("/")
    assert reverse("two", args=[3]) == "/two/3/"


def test_patterns_that_are_read_anew(urlconf):
    assert reverse("root") == "/"
    urlconf.urlpatterns[0] = path("start/", view, name="root")
    clear_url_caches()
    assert reverse("root") == "/start/"


def test_no_more_are_kept_than_a_limit(monkeypatch):
    monkeypatch.setattr(kept, "MAX_MADE", 3)
    for number in range(10):
        assert reverse("more", args=[number]) == f"/more/{number}/"
        [known] = vars(get_resolver())[kept.MADE].values()
        assert len(known.urls) <= 3
