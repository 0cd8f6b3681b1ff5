"""The table of docs/views.rst, measured: what a generic view hands to a thread."""

import asyncio

import pytest
from asgi import Client
from django import forms
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from django.views import generic
from django.views.decorators.csrf import csrf_exempt
from doc_tables import documented
from hops import count_hops
from staying import own, urlconf
from testapp.models import Author, Book

from django_aio import run

from . import test_hooks
from .test_hooks import TEMPLATES, VIEWS

TABLE = documented("views.rst", "hops-views")
Books = forms.inlineformset_factory(Author, Book, fields=("title",), extra=1, max_num=1)


class Formset(generic.UpdateView):
    """As projects do: a form and a formset in one view."""

    template_name = "page.html"
    model = Author
    fields = ("name",)
    success_url = "/done/"

    def form_valid(self, form):
        books = Books(self.request.POST, instance=self.object)
        if not books.is_valid():
            return HttpResponse(books.errors, status=400)
        books.save()
        return super().form_valid(form)


class AsyncQuerySet(generic.ListView):
    template_name = "page.html"
    model = Author

    async def get_queryset(self):
        await asyncio.sleep(0)
        return super().get_queryset()


class AsyncFormValid(Formset):
    async def form_valid(self, form):
        await asyncio.sleep(0)
        return super().form_valid(form)


class AsyncPost(generic.UpdateView):
    template_name = "page.html"
    model = Author
    fields = ("name",)

    async def post(self, request, *args, **kwargs):
        author = await run(self.get_object)
        return HttpResponse(author.name)


formset = {
    "name": "Emma",
    "books-TOTAL_FORMS": "1",
    "books-INITIAL_FORMS": "0",
    "books-0-title": "A book",
}
# name: (class, attributes, arguments of the URL, what is posted)
OWN = {
    "update with a formset, posted": (Formset, {}, {"pk": 1}, formset),
    "`async def get_queryset()`": (AsyncQuerySet, {}, {}, None),
    "`async def form_valid()`, posted": (AsyncFormValid, {}, {"pk": 1}, formset),
    "`async def post()`, posted": (AsyncPost, {}, {"pk": 1}, {"name": "x"}),
    "`async def post()`, the inherited `get()`": (AsyncPost, {}, {"pk": 1}, None),
}


def rows():
    for name, (cls, attributes, route, posted) in VIEWS.items():
        yield name, (cls, attributes, route, None)
        if posted is not None:
            yield f"{name}, posted", (cls, attributes, route, posted)
    yield from OWN.items()


ROWS = dict(rows())


def test_the_table_has_the_rows_that_are_measured():
    assert list(TABLE) == list(ROWS)


@pytest.fixture(autouse=True)
def _data(persistent):
    User.objects.create_user("reader", password="secret")
    Author.objects.create(name="author 1")
    connections.close_all()


def prepare():
    Author.objects.exclude(pk=1).delete()
    Author.objects.update_or_create(pk=1, defaults={"name": "author 1"})


async def ask(posted):
    await run(prepare)
    client = Client()
    client.cookies["csrftoken"] = "t" * 32
    with count_hops() as hops:
        if posted is None:
            response = await client.get("/")
        else:
            response = await client.post("/", posted)
    assert response.status in (200, 302, 404, 405)
    return own(hops.work)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize("row", ROWS)
async def test_the_table_is_right(row, listed):
    cls, attributes, route, posted = ROWS[row]
    view = csrf_exempt(type("View", (cls,), {**attributes, "__module__": __name__}).as_view())
    trusted = {"COOPERATIVE": [__name__, test_hooks.__name__] if listed else []}
    patterns = urlconf(path("", view, route))
    with override_settings(ROOT_URLCONF=patterns, TEMPLATES=TEMPLATES, AIO=trusted):
        await ask(posted)
        hops = await ask(posted)
    assert len(hops) == TABLE[row][0 if listed else 1], "\n".join(hops)
