"""The examples of docs/templates.rst, run as they stand there."""

import asyncio
import decimal

import pytest
from asgi import Client
from django import template
from django.contrib.auth.models import User
from django.core.cache import cache
from django.template import Context, Engine, engines
from django.test import RequestFactory, override_settings
from django.test.signals import template_rendered
from django.urls import path
from doc_tables import examples
from staying import on_the_loop, urlconf
from testapp.models import Author, Book

from django_aio import cooperative

SOURCES = {
    "bookshop/shelf.html": "Shelf: {% for book in books %}{{ book.author.name }}{% endfor %}",
    "bookshop/greeting.txt": "Dear {{ customer.name }},",
    "bookshop/letter.html": "{{ text }} {{ books }}",
    "overview.html": "{{ rates.EUR }} {{ count }} {{ rates.USD }}",
}
LOADERS = [("django.template.loaders.locmem.Loader", SOURCES)]
BACKEND = "django.template.backends.django.DjangoTemplates"

pytestmark = pytest.mark.usefixtures("db")


async def fetch_rates():
    await asyncio.sleep(0)
    return {"EUR": 1, "USD": 2}


@pytest.fixture
def names():
    """What the page's code defines, in one namespace; the later `shelf` is the streamed one."""
    found = {"__name__": __name__, "asyncio": asyncio, "Book": Book, "fetch_rates": fetch_rates}
    found |= {"template": template, "rates": cache}
    sources = examples("templates.rst")
    exec(sources[0], found)
    found["rendered"] = found["shelf"]
    for source in sources[1:]:
        exec(source, found)
    with override_settings(TEMPLATES=[{"BACKEND": BACKEND, "OPTIONS": {"loaders": LOADERS}}]):
        engines.all()  # made now: they read files
        yield found


@pytest.mark.parametrize("name", ["rendered", "shelf"])
async def test_the_shelf_is_rendered_and_streamed(names, name):
    author = await Author.objects.acreate(name="Ursula")
    await Book.objects.acreate(title="t", author=author)
    view = cooperative(names[name])
    with override_settings(ROOT_URLCONF=urlconf(path("", view)), MIDDLEWARE=[]), on_the_loop():
        assert (await Client().get("/")).text == "Shelf: Ursula"


async def test_text_is_rendered_without_a_request(names):
    texts = []

    def note(sender, context, **kwargs):
        texts.append(context.get("text"))

    template_rendered.connect(note)
    try:
        await names["greet"](Author(name="Ursula"))
    finally:
        template_rendered.disconnect(note)
    assert texts == [None, "Dear Ursula,"]


async def test_a_task_and_a_method_are_variables(names):
    view = cooperative(names["overview"])
    with override_settings(ROOT_URLCONF=urlconf(path("", view)), MIDDLEWARE=[]):
        assert (await Client().get("/")).text == "1 0 2"


async def test_tags_and_filters(names, monkeypatch):
    engine = Engine()
    engine.template_builtins.append(names["register"])
    user = await User.objects.acreate(username="u")
    request = RequestFactory().get("/")

    async def auser():
        return user

    class Baskets:
        """Stands in for a model of a shop's."""

        @staticmethod
        def filter(owner):
            return User.objects.filter(pk=owner.pk)

    monkeypatch.setitem(names, "Basket", type("Basket", (), {"objects": Baskets}))
    request.auser = auser
    await cache.aset("EUR", decimal.Decimal("1.5"))
    page = engine.from_string("{% basket_size %} {{ amount|in_currency:'EUR' }}")
    context = Context({"request": request, "amount": 2})
    assert await page.arender(context) == "1 3.0"
