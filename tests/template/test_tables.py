"""The figures of docs/templates.rst, measured."""

import asyncio
import re
from pathlib import Path

import pytest
from asgi import Client
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import caches
from django.core.management import call_command
from django.db import connections
from django.http import HttpRequest
from django.template import engines
from django.template.response import TemplateResponse
from django.test import override_settings
from django.urls import path
from hops import count_hops
from staying import own, urlconf
from testapp.models import Author, Book, Tag

from django_aio import run

from . import tags_of_a_test as tags

DOCS = Path(__file__).parents[2] / "docs" / "templates.rst"
LISTED = {"COOPERATIVE": [tags.__name__]}
DJANGO_S = [
    f"django.{name}"
    for name in (
        "template.context_processors.debug",
        "template.context_processors.i18n",
        "template.context_processors.request",
        "contrib.auth.context_processors.auth",
        "contrib.messages.context_processors.messages",
    )
]
QUERYSET = "{% for book in books.all %}{{ book }}{% endfor %}"
KEYS = "{{ tag.target.books.all.0.author.name }}{{ book.author.name }}"
CACHED = "{% load cache %}{% cache 60 fragment using='CACHE' %}{{ books.count }}{% endcache %}"
AUTH = "{{ user.username }}{{ perms.testapp.add_book }}{% for m in messages %}{{ m }}{% endfor %}"

# name: templates, context processors, the AIO setting.
ROWS = {
    "a lazy queryset": ([QUERYSET], [], {}),
    "three foreign keys, one after the other": ([KEYS], [], {}),
    "`{% cache %}`, database or local memory": (
        [CACHED.replace("CACHE", name) for name in ("database", "memory")],
        [],
        {},
    ),
    "Django's context processors: `request.user`, permissions, messages": ([AUTH], DJANGO_S, {}),
    "coroutine functions as variables, tags, filters, context processors": (
        ["{{ acount }}{% atag %}{{ 'x'|afilter }}{{ aprocessed }}"],
        [f"{tags.__name__}.aprocessor"],
        {},
    ),
    "synchronous tag, filter or node, its module is on the list": (
        ["{% tag %}", "{{ 'x'|filter }}", "{% node %}{% node %}x{% endnode %}{% endnode %}"],
        [],
        LISTED,
    ),
    "synchronous tag or filter, not on the list": (["{% tag %}", "{{ 'x'|filter }}"], [], {}),
    "synchronous node, not on the list, with another in it": (
        ["{% node %}{% node %}x{{ acount }}{% endnode %}{% endnode %}"],
        [],
        {},
    ),
    "synchronous context processor, not on the list": (
        ["{{ processed }}"],
        [f"{tags.__name__}.processor"],
        {},
    ),
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "database": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache_of_templates",
    },
}


def documented():
    """The rows of the table: {name: (figure, figure)}."""
    text = DOCS.read_text().partition(".. _hops-templates:\n")[2]
    rows = re.findall(r"^   \* - (.+(?:\n       .+)*)\n     - (\d)\n     - (\d)$", text, re.M)
    return {re.sub(r"\s+", " ", name): (int(a), int(b)) for name, a, b in rows}


def test_every_row_is_measured():
    assert set(documented()) == set(ROWS)


@pytest.fixture
def context(db, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    author = Author.objects.create(name="Ann")
    book = Book.objects.create(title="One", author=author)
    Tag.objects.create(name="good", target=author)
    User.objects.create_user("reader")
    with override_settings(CACHES=CACHES):
        call_command("createcachetable", verbosity=0)
        connections.close_all()
        yield {"books": Book.objects.all, "acount": Book.objects.acount, "book": book.pk}


def fresh(context):
    """Objects whose related objects have not been fetched."""
    ContentType.objects.clear_cache()
    for cache in caches.all():
        cache.clear()
    names = {"tag": Tag.objects.get(), "book": Book.objects.get(pk=context["book"])}
    return {**context, **names}


async def measured(prepare, call):
    """The hand-overs of a call, the second time."""
    for warm in (False, True):
        prepared = await run(prepare)
        with count_hops() as hops:
            await call(prepared)
        if warm:
            return own(hops.work)
    raise AssertionError


@pytest.mark.parametrize("name", ROWS)
async def test_hops(name, context):
    texts, processors, aio = ROWS[name]
    library = {"tags": tags.__name__}
    options = {"context_processors": processors, "libraries": library, "builtins": [tags.__name__]}
    entry = {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": options}
    for text in texts:
        with override_settings(TEMPLATES=[entry], AIO=aio):
            template = engines["django"].from_string(text)
            found = (await of_arender(template, context), await of_view(template, context))
        assert tuple(map(len, found)) == documented()[name], (text, found)


async def of_arender(template, context):
    def prepare():
        request = HttpRequest()
        request.user = User.objects.get()
        return fresh(context), request

    async def call(prepared):
        assert await template.arender(*prepared)

    return await measured(prepare, call)


async def of_view(template, context):
    prepared = []

    async def view(request):
        await asyncio.sleep(0)
        return TemplateResponse(request, template, prepared[-1])

    async def call(names):
        prepared.append(names)
        assert (await client.get("/")).status == 200

    with override_settings(ROOT_URLCONF=urlconf(path("", view))):
        client = Client()
        return await measured(lambda: fresh(context), call)
