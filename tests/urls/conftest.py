"""URLconfs of tests, with converters of their own."""

import contextlib
import sys
import types

from django.test import override_settings
from django.urls import register_converter
from django.urls.converters import REGISTERED_CONVERTERS, get_converters


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
