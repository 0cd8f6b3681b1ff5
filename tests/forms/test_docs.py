"""The examples of docs/forms.rst, as they stand there, and the figures of its table."""

import asyncio
import itertools
import sys
from types import ModuleType

import doc_tables
import pytest
import testapp.models
from asgi import Client
from django import forms
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import override_settings
from django.urls import path
from state import tables
from staying import on_the_loop, urlconf
from testapp.models import Author, Book

from django_aio import blocking

number = itertools.count(1)

pytestmark = pytest.mark.usefixtures("_templates", "persistent")


@pytest.fixture
def examples(monkeypatch):
    """What the code on the page defines, in a module that is on the list."""
    monkeypatch.setitem(sys.modules, "bookshop", ModuleType("bookshop"))
    monkeypatch.setitem(sys.modules, "bookshop.models", testapp.models)
    module = ModuleType("bookshop.forms")
    for block in doc_tables.examples("forms.rst"):
        exec(compile(block, "forms.rst", "exec"), vars(module))
    with override_settings(AIO={"COOPERATIVE": ["bookshop", "testapp"]}):
        yield module


async def test_the_view_of_a_form(examples, author):
    with override_settings(ROOT_URLCONF=urlconf(path("", examples.add_book)), MIDDLEWARE=[]):
        client = Client()
        assert "Ursula" in (await client.get("/")).text
        data = {"title": "Rocannon", "author": author.pk, "readers": author.pk}
        with on_the_loop():
            response = await client.post("/", data)
        book = await Book.objects.aget(title="Rocannon")
        assert response.headers["location"] == f"/books/{book.pk}/"
        assert "There is a book of this title." in (await client.post("/", data)).text


async def test_coroutine_functions(examples, author):
    await Book.objects.acreate(title="x", author=author)
    form = examples.SearchForm({"author": "Ursula", "shelf": author.pk})
    assert await form.ais_valid()
    assert form.cleaned_data == {"author": "Ursula", "shelf": author.pk, "count": 1}
    unknown = examples.SearchForm({"author": "Nobody"})
    assert (await unknown.aerrors())["author"] == ["Nobody knows Nobody."]


async def test_the_view_of_a_formset(examples, author):
    pattern = path("<int:pk>/", examples.edit_shelf)
    with override_settings(ROOT_URLCONF=urlconf(pattern), MIDDLEWARE=[]):
        url = f"/{author.pk}/"
        assert "books-0-title" in (await Client().get(url)).text
        data = {"books-TOTAL_FORMS": 1, "books-INITIAL_FORMS": 0, "books-0-title": "Planet"}
        with on_the_loop():
            response = await Client().post(url, data)
        assert response.headers["location"] == url
    assert await author.books.acount() == 1


# The table.


class Plain(forms.Form):
    name = forms.CharField()

    def clean(self):
        return {**self.cleaned_data, "cleaned": True}


async def validator(value):
    await asyncio.sleep(0)


@blocking
def blocking_validator(value):
    """Not on the list."""


class Asynchronous(Plain):
    name = forms.CharField(validators=[validator])

    async def clean_name(self):
        await asyncio.sleep(0)
        return self.cleaned_data["name"]


class AuthorForm(forms.ModelForm):
    class Meta:
        model = Author
        fields = ("name",)


class Choices(forms.Form):
    author = forms.ModelChoiceField(Author.objects.all())


class Upload(forms.Form):
    file = forms.FileField()


NAME = {"name": "x"}
Distrusted = blocking(type("Distrusted", (Plain,), {}))
DistrustedAuthor = blocking(type("DistrustedAuthor", (AuthorForm,), {}))
Validated = type("Validated", (Plain,), {"name": forms.CharField(validators=[blocking_validator])})


def rows(prefix):
    management = {f"{prefix}-TOTAL_FORMS": "2", f"{prefix}-INITIAL_FORMS": "0"}
    names = {f"{prefix}-{n}-name": f"name {next(number)}" for n in range(2)}
    return {**management, **names}


def books(author):
    data = {key.replace("name", "title"): value for key, value in rows("books").items()}
    form_set = forms.inlineformset_factory(Author, Book, fields=["title"])
    return form_set(data, instance=author)


def model_formset():
    form_set = forms.modelformset_factory(Author, form=AuthorForm)
    return form_set(rows("form"), queryset=Author.objects.none())


def author_form(form_class=AuthorForm):
    return form_class({"name": f"author {next(number)}"})


def calls(author):
    """{row: (what makes the form, the method)}."""
    upload = {"file": SimpleUploadedFile("a.txt", b"content")}
    return {
        "a form, `is_valid()`, `ais_valid()`": (lambda: Plain(NAME), "is_valid"),
        "a form with coroutine functions, `is_valid()`, `ais_valid()`": (
            lambda: Asynchronous(NAME),
            "is_valid",
        ),
        "a model form, `is_valid()`, `ais_valid()`": (author_form, "is_valid"),
        "a model form, `save()`, `asave()`": (author_form, "save"),
        "choices of a queryset, `render()`, `arender()`": (Choices, "render"),
        "a formset, `is_valid()`, `ais_valid()`": (
            lambda: forms.formset_factory(Asynchronous)(rows("form")),
            "is_valid",
        ),
        "a model formset, `save()`, `asave()`": (model_formset, "validate and save"),
        "an inline formset, `save()`, `asave()`": (
            lambda: books(author),
            "validate and save",
        ),
        "an uploaded file, `is_valid()`, `ais_valid()`": (lambda: Upload({}, upload), "is_valid"),
        "a form that is not on the list, `is_valid()`, `ais_valid()`": (
            lambda: Distrusted(NAME),
            "is_valid",
        ),
        "a formset that is not on the list, `is_valid()`, `ais_valid()`": (
            lambda: forms.formset_factory(Distrusted)(rows("form")),
            "is_valid",
        ),
        "a model form that is not on the list, `save()`, `asave()`": (
            lambda: author_form(DistrustedAuthor),
            "validate and save",
        ),
        "a validator that is not on the list, `is_valid()`, `ais_valid()`": (
            lambda: Validated(NAME),
            "is_valid",
        ),
    }


def in_bridge(make, method):
    def call():
        form = make()
        if method == "validate and save":
            assert form.is_valid()
            assert form.save()
        else:
            assert getattr(form, method)()

    return call


def awaited(make, method):
    async def call():
        form = make()
        if method == "validate and save":
            assert await form.ais_valid()
            assert await form.asave()
        else:
            assert await getattr(form, f"a{method}")()

    return call


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_the_table(colour, author):
    rows = doc_tables.documented("forms.rst", "hops-forms")
    expected = {name: row[colour] for name, row in rows.items()}
    wanted = calls(author)
    assert list(expected) == list(wanted)
    found = {}
    with override_settings(AIO={"COOPERATIVE": [__name__, "testapp"]}):
        for name, (make, method) in wanted.items():
            call = (in_bridge, awaited)[colour](make, method)
            found[name] = await tables.hops_of(tables.nothing, call)
    tables.assert_same(expected, found)
