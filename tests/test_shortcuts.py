"""`django.shortcuts` in the other colour."""

import asyncio

import pytest
from asgiref.sync import iscoroutinefunction
from django import shortcuts
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.template import TemplateDoesNotExist, engines
from django.test import override_settings
from django.urls import NoReverseMatch, path
from staying import on_the_loop, urlconf
from testapp.models import Author, Book

from django_aio import BridgeError, run
from django_aio.shortcuts import aredirect, arender, astream

TEMPLATES = {"page.html": "{% for author in authors %}{{ author }}{% endfor %}"}
ENTRY = {
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "NAME": "memory",
    "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", TEMPLATES)]},
}
STRINGS = {"BACKEND": "django.template.backends.dummy.TemplateStrings", "DIRS": []}


@pytest.fixture(autouse=True)
def _templates(db):
    view = path("shelf/<int:pk>/", lambda request: None, name="shelf")
    with override_settings(TEMPLATES=[ENTRY], ROOT_URLCONF=urlconf(view)):
        engines.all()  # making them imports the libraries of tags
        yield


def test_they_are_in_django_s_module():
    assert (shortcuts.arender, shortcuts.aredirect) == (arender, aredirect)
    assert shortcuts.astream is astream


async def test_arender():
    await Author.objects.acreate(name="Ann")
    context = {"authors": Author.objects.all()}
    with on_the_loop():
        response = await arender(
            HttpRequest(), "page.html", context, "text/plain", 201, using="memory"
        )
    assert (response.content, response.status_code) == (b"Ann", 201)
    assert response["Content-Type"] == "text/plain"
    with pytest.raises(TemplateDoesNotExist):
        await arender(None, "nowhere.html")


async def test_astream():
    await Author.objects.acreate(name="Ann")
    context = {"authors": Author.objects.all()}
    response = astream(HttpRequest(), "page.html", context, "text/plain", 201, using="memory")
    assert isinstance(response, StreamingHttpResponse)
    assert (response.status_code, response["Content-Type"]) == (201, "text/plain")
    assert b"".join([piece async for piece in response]) == b"Ann"
    with pytest.raises(TemplateDoesNotExist):
        astream(None, ["nowhere.html", "neither.html"])


async def test_an_engine_that_cannot_stream(tmp_path):
    (tmp_path / "page.html").write_text("hello $name")
    with override_settings(TEMPLATES=[{**STRINGS, "DIRS": [tmp_path]}]):
        response = astream(HttpRequest(), "page.html", {"name": "Ann"})
        assert [piece async for piece in response] == [b"hello Ann"]


class Shelf:
    async def get_absolute_url(self):
        await asyncio.sleep(0)
        return "/awaited/"


class Queried:
    def get_absolute_url(self):
        return f"/{Author.objects.count()}/"


async def test_aredirect():
    response = await aredirect(Shelf())
    assert (response.status_code, response.url) == (302, "/awaited/")
    assert (await aredirect(Queried())).url == "/0/"
    assert (await aredirect("shelf", pk=3)).url == "/shelf/3/"
    assert (await aredirect("shelf", 4, permanent=True)).status_code == 301
    assert (await aredirect("https://example.com/")).url == "https://example.com/"
    with pytest.raises(NoReverseMatch):
        await aredirect("nowhere")


async def test_redirect_in_the_bridge_and_outside():
    assert (await run(shortcuts.redirect, Shelf())).url == "/awaited/"
    with pytest.raises(BridgeError, match=r"Shelf\.get_absolute_url\(\).*await aredirect"):
        shortcuts.redirect(Shelf())


def test_redirect_in_a_thread():
    assert shortcuts.redirect(Shelf()).url == "/awaited/"
    assert shortcuts.resolve_url("/x/") == "/x/"


class Restricted:
    """Like a manager: its `all()` queries before it says which rows there are."""

    def all(self):
        names = list(Author.objects.values_list("name", flat=True))
        return Book.objects.filter(author__name__in=names)


@pytest.fixture
def restricted(monkeypatch):
    monkeypatch.setattr(Book._meta, "default_manager", Restricted(), raising=False)
    monkeypatch.setattr(type(Book), "_default_manager", Restricted(), raising=False)


async def test_get_object_or_404_is_native():
    author = await Author.objects.acreate(name="Ann")
    await Book.objects.acreate(title="One!", author=author)
    for klass in (Book, Book.objects, Book.shouting, Book.objects.all(), Book.shouting.all()):
        with on_the_loop():
            book = await shortcuts.aget_object_or_404(klass, title="One!")
            books = await shortcuts.aget_list_or_404(klass, title="One!")
        assert books == [book]
        with pytest.raises(Http404):
            await shortcuts.aget_object_or_404(klass, title="Two")
        with pytest.raises(Http404):
            await shortcuts.aget_list_or_404(klass, title="Two")
    assert iscoroutinefunction(shortcuts.aget_object_or_404)


async def test_managers_may_query(restricted):
    author = await Author.objects.acreate(name="Ann")
    await Book.objects.acreate(title="One", author=author)
    with on_the_loop():
        assert (await shortcuts.aget_object_or_404(Book, title="One")).title == "One"
        assert len(await shortcuts.aget_list_or_404(Book)) == 1
