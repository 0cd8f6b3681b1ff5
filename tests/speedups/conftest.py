"""URLconfs with converters of their own, and what Django looked for itself."""

import contextlib
import os
import sys
import types

import pytest
from django.template.base import FilterExpression
from django.test import override_settings
from django.urls import register_converter
from django.urls.converters import REGISTERED_CONVERTERS, get_converters

# There is nothing to test where they are left out.
collect_ignore_glob = ["*"] if os.environ.get("AIO_SPEEDUPS") == "off" else []


@contextlib.contextmanager
def root_urlconf(name, converter, patterns):
    """The module `name` as ROOT_URLCONF. `patterns()` is asked when `converter` is registered."""
    register_converter(converter, converter.__name__.lower())
    module = types.ModuleType(name)
    module.urlpatterns = patterns()
    sys.modules[name] = module
    try:
        with override_settings(ROOT_URLCONF=name):
            yield module
    finally:
        del sys.modules[name], REGISTERED_CONVERTERS[converter.__name__.lower()]
        get_converters.cache_clear()


@pytest.fixture
def looks(monkeypatch):
    """The variables that were looked for by Django."""
    found = []
    upstream = FilterExpression.resolve

    def recorded(self, context, ignore_failures=False):
        found.append(str(self))
        return upstream(self, context, ignore_failures)

    monkeypatch.setattr(FilterExpression, "resolve", recorded)
    return found
