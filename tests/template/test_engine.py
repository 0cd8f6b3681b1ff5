"""The cached loader: the same template for the same name, and nobody else's."""

import contextvars

import pytest
from django.template import Engine, TemplateDoesNotExist
from django.template.loaders.cached import Loader

LOCMEM = "django.template.loaders.locmem.Loader"
TENANT = contextvars.ContextVar("tenant", default="one")


class TenantLoader(Loader):
    """A project's: what is cached belongs to a tenant."""

    def cache_key(self, template_name, skip=None):
        return f"{TENANT.get()}:{super().cache_key(template_name, skip)}"


def engine_of(templates, loader="django.template.loaders.cached.Loader", debug=False):
    """An engine that caches the templates of a dictionary."""
    return Engine(loaders=[(loader, [(LOCMEM, templates)])], debug=debug)


def test_a_template_is_compiled_once():
    templates = {"a.html": "first"}
    engine = engine_of(templates)
    template = engine.get_template("a.html")
    templates["a.html"] = "second"
    assert engine.get_template("a.html") is template


def test_a_reset_loader_has_nothing():
    """As the development server does it when a template was changed."""
    templates = {"a.html": "first"}
    engine = engine_of(templates)
    engine.get_template("a.html")
    templates["a.html"] = "second"
    engine.template_loaders[0].reset()
    assert engine.get_template("a.html").source == "second"


@pytest.mark.parametrize("debug", [True, False])
def test_what_is_missing_is_missing_every_time(debug):
    engine = engine_of({}, debug=debug)
    for _ in range(3):
        with pytest.raises(TemplateDoesNotExist, match=r"a\.html"):
            engine.get_template("a.html")


def test_a_template_that_extends_its_own_name_is_not_found_again():
    """What is to be skipped is part of the key: the outer template is cached and not the answer."""
    templates = {"a.html": "{% extends 'a.html' %}{% block b %}mine{% endblock %}"}
    theirs = {"a.html": "<{% block b %}{% endblock %}>"}
    loaders = [(LOCMEM, templates), (LOCMEM, theirs)]
    engine = Engine(loaders=[("django.template.loaders.cached.Loader", loaders)])
    for _ in range(2):
        assert engine.render_to_string("a.html", {}) == "<mine>"


def test_a_loader_with_keys_of_its_own_is_asked_for_them():
    templates = {"a.html": "of one"}
    engine = engine_of(templates, loader=f"{__name__}.TenantLoader")
    assert engine.get_template("a.html").source == "of one"
    templates["a.html"] = "of two"
    token = TENANT.set("two")
    try:
        assert engine.get_template("a.html").source == "of two"
    finally:
        TENANT.reset(token)
    assert engine.get_template("a.html").source == "of one"


def test_a_name_in_the_cache_of_a_loader_with_keys_of_its_own_is_no_answer():
    """A key of one template may be the name of another."""
    engine = engine_of({"a.html": "plain", "one:a.html": "other"})
    tenants = engine_of({"a.html": "plain", "one:a.html": "other"}, f"{__name__}.TenantLoader")
    for each in (engine, tenants):
        assert each.get_template("a.html").source == "plain"
        assert each.get_template("one:a.html").source == "other"
