"""The context of a page: freed with the page, and good for everything until then."""

import gc
import weakref

import pytest
from django.http import HttpRequest
from django.template import Context, engines
from django.template.context import make_context
from django.template.response import TemplateResponse
from django.test import override_settings

LOCMEM = "django.template.loaders.locmem.Loader"


class Shown:
    """What a page shows."""


@pytest.fixture
def without_collector():
    """The garbage collector does not run by itself."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("request_of", [lambda: None, HttpRequest], ids=["none", "request"])
@pytest.mark.parametrize("source", ["{{ shown }}", "{% with a=shown %}{{ a }}{% endwith %}"])
def test_what_a_page_showed_is_freed_when_it_is_rendered(without_collector, request_of, source):
    template = engines["django"].from_string(source)
    shown = Shown()
    alive = weakref.ref(shown)
    assert "Shown" in template.render({"shown": shown}, request_of())
    del shown
    assert alive() is None


@pytest.mark.parametrize("names", [["a.html"], ["missing.html", "a.html"]])
def test_what_a_response_showed_is_freed_with_the_response(without_collector, names):
    """Also if there is no template of the first name: the error would have kept everything."""
    templates = {"a.html": "{{ shown }}"}
    loader = ("django.template.loaders.cached.Loader", [(LOCMEM, templates)])
    backend = "django.template.backends.django.DjangoTemplates"
    with override_settings(TEMPLATES=[{"BACKEND": backend, "OPTIONS": {"loaders": [loader]}}]):
        # The first time it is not known yet.
        TemplateResponse(HttpRequest(), names, {"shown": Shown()}).render()
        shown = Shown()
        alive = weakref.ref(shown)
        response = TemplateResponse(HttpRequest(), names, {"shown": shown}).render()
        assert b"Shown" in response.content
        del shown, response
        assert alive() is None


@pytest.mark.parametrize("request_of", [lambda: None, HttpRequest], ids=["none", "request"])
def test_layers_are_put_on_and_taken_off_as_ever(request_of):
    from django.template.backends import django

    context = django.make_context({"a": 1}, request_of())
    with context.push(a=2):
        assert context["a"] == 2
    assert context["a"] == 1
    with context.update({"b": 3}):
        assert context.flatten()["b"] == 3
    assert "b" not in context
    context.push(a=4)
    context.pop()
    assert context["a"] == 1


def test_a_context_of_a_project_is_left_alone():
    """Its blocks may be open around the render."""
    context = Context({"a": 1})
    template = engines["django"].from_string("{{ a }}").template
    with context.push(a=2):
        assert template.render(context) == "2"
    assert template.render(context) == "1"
    made = make_context({"a": 1}, HttpRequest())
    with made.push({"a": 2}) as layer:
        assert layer.context is made
    assert template.render(made) == "1"
