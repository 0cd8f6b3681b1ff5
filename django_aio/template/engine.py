"""Engines: context processors of either colour, where the policy says, and templates by name.

The processors are those of the settings, for the engines of both backends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.template.base import Template
from django.template.engine import Engine
from django.template.loaders.cached import Loader
from django.utils.functional import cached_property

from django_aio.template.calls import adapt
from django_aio.utils.html import TEXT


def processors(upstream: cached_property[Any]) -> cached_property[Any]:
    """`template_context_processors` of an engine: its functions, adapted."""
    find = upstream.func

    def template_context_processors(self: Any) -> Any:
        found = find(self)
        return type(found)(adapt(processor, "context processor") for processor in found)

    adapted = cached_property(template_context_processors)
    adapted.__set_name__(None, "template_context_processors")  # type: ignore[arg-type]
    return adapted


def get_template(upstream: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`Engine.get_template`: a template that the cached loader has is answered at once.

    Where it is the only loader. Each widget of a form, its attributes, its label and its errors are
    templates of their own.
    """

    @functools.wraps(upstream)
    def get_template(self: Any, template_name: Any) -> Any:
        found = cached(self, template_name) if type(self) is Engine else None
        return found if isinstance(found, Template) else upstream(self, template_name)

    return get_template


def cached(engine: Any, template_name: Any) -> Any:
    """What the cached loader of an engine knows of a name, if that is its only loader.

    The template, the class TemplateDoesNotExist or such an error, or None.
    """
    loaders = engine.template_loaders
    if len(loaders) != 1 or type(loaders[0]) is not Loader or type(template_name) not in TEXT:
        return None
    return loaders[0].get_template_cache.get(template_name)
