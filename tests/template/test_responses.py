"""`arender()` everywhere, and responses whose rendering is deferred."""

import asyncio

import pytest
from asgi import Client
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.template import Context, Template, TemplateDoesNotExist, engines, loader
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.test import override_settings
from django.urls import path
from staying import on_the_loop, urlconf
from testapp.models import Author, Book

from django_aio import cooperative, in_bridge
from django_aio.template.loader import arender_to_string

LOADER = (
    "django.template.loaders.locmem.Loader",
    {
        "page.html": "{{ x }}{% for book in books %}{{ book.author.name }}{% endfor %}",
        "where.html": "{{ where }}",
    },
)
ENTRY = {
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "OPTIONS": {"loaders": [LOADER]},
}


@pytest.fixture(autouse=True)
def _templates(db):
    with override_settings(TEMPLATES=[ENTRY]):
        yield


def where():
    return "loop" if in_bridge() else "thread"


async def afunction():
    await asyncio.sleep(0)
    return "x"


async def context():
    author = await Author.objects.acreate(name="Ann")
    await Book.objects.acreate(title="One", author=author)
    return {"x": afunction, "books": Book.objects.all()}


async def test_a_template_of_a_string():
    found = await context()
    template = Template("{{ x }}{% for book in books %}{{ book.author.name }}{% endfor %}")
    with on_the_loop():
        assert await template.arender(Context(found)) == "xAnn"


async def test_a_template_of_an_engine():
    found = await context()
    template = engines["django"].get_template("page.html")
    with on_the_loop():
        assert await template.arender(found, HttpRequest()) == "xAnn"
    assert await template.arender() == ""


async def test_arender_to_string():
    found = await context()
    assert loader.arender_to_string is arender_to_string
    assert await arender_to_string("page.html", found) == "xAnn"
    names = ["nowhere.html", "page.html"]
    assert await arender_to_string(names, found, HttpRequest(), using="django") == "xAnn"
    with pytest.raises(TemplateDoesNotExist):
        await arender_to_string("nowhere.html")


async def test_arender_of_a_response():
    response = SimpleTemplateResponse("page.html", await context())
    called = []
    response.add_post_render_callback(cooperative(lambda response: called.append(response)))
    assert await response.arender() is response
    assert (response.content, called) == (b"xAnn", [response])
    assert await response.arender() is response
    assert called == [response]


class OwnResponse(TemplateResponse):
    """A class that is not on the list."""


async def test_a_response_that_is_not_trusted_is_rendered_in_a_thread():
    for cls, expected in ((TemplateResponse, b"loop"), (OwnResponse, b"thread")):
        response = cls(HttpRequest(), "where.html", {"where": where})
        await response.arender()
        assert response.content == expected
    response = TemplateResponse(HttpRequest(), "where.html", {"where": where})
    response.add_post_render_callback(lambda response: None)
    await response.arender()
    assert response.content == b"thread"


async def test_the_response_of_a_coroutine_view_is_rendered_in_the_bridge():
    async def view(request):
        return TemplateResponse(request, "page.html", await context())

    async def looks(request):
        return TemplateResponse(request, "where.html", {"where": where})

    with override_settings(ROOT_URLCONF=urlconf(path("a", view), path("b", looks))):
        assert (await Client().get("/a")).text == "xAnn"
        assert (await Client().get("/b")).text == "loop"


def test_all_are_coroutine_functions():
    for method in (Template.arender, SimpleTemplateResponse.arender, loader.arender_to_string):
        assert iscoroutinefunction(method)


CACHED = ("django.template.loaders.cached.Loader", [LOADER])


def resolved(names, using=None):
    """The name of the template that a response with these names is rendered from."""
    return SimpleTemplateResponse(names, using=using).resolve_template(names).template.name


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("debug", [True, False])
def test_the_first_template_that_exists_is_taken_every_time(kind, debug):
    options = {"loaders": [CACHED], "debug": debug}
    with override_settings(TEMPLATES=[{**ENTRY, "OPTIONS": options}]):
        for _ in range(3):
            assert (
                resolved(kind(["no.html", "never.html", "page.html", "where.html"])) == "page.html"
            )
            assert resolved(kind(["where.html", "no.html"])) == "where.html"
            assert resolved(kind(["no.html", "where.html"])) == "where.html"


def test_the_error_is_about_all_templates_every_time():
    with override_settings(TEMPLATES=[{**ENTRY, "OPTIONS": {"loaders": [CACHED]}}]):
        for _ in range(3):
            with pytest.raises(TemplateDoesNotExist, match=r"^no\.html, never\.html$") as error:
                resolved(["no.html", "never.html"])
            assert [str(each) for each in error.value.chain] == ["no.html", "never.html"]


def test_another_engine_may_have_what_the_first_one_misses():
    """With two engines each name is looked for in both, in turn."""
    second = ("django.template.loaders.locmem.Loader", {"no.html": "second"})
    entries = [
        {**ENTRY, "NAME": "first", "OPTIONS": {"loaders": [CACHED]}},
        {**ENTRY, "NAME": "second", "OPTIONS": {"loaders": [second]}},
    ]
    with override_settings(TEMPLATES=entries):
        for _ in range(2):
            assert resolved(["no.html", "page.html"]) == "no.html"
            assert resolved(["no.html", "page.html"], using="first") == "page.html"


def test_a_template_that_appears_is_found_when_the_loader_is_reset():
    templates = {"b.html": "b"}
    cached = ("django.template.loaders.cached.Loader", [(LOADER[0], templates)])
    with override_settings(TEMPLATES=[{**ENTRY, "OPTIONS": {"loaders": [cached]}}]):
        assert resolved(["a.html", "b.html"]) == "b.html"
        templates["a.html"] = "a"
        engines["django"].engine.template_loaders[0].reset()
        assert resolved(["a.html", "b.html"]) == "a.html"
