"""The cached loader: a template that it has is found by its name.

(Django documentation, "The Django template language: for Python programmers", "Loader types".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.template.base import Template
from django.template.loaders.cached import Loader

Find = Callable[..., Template]


def get_template(upstream: Find) -> Find:
    """`Loader.get_template`: what is in the cache is answered before a key is made.

    The key of a template of which none is to be skipped is its name, unless a subclass says
    otherwise. Includes and the widgets of a form ask dozens of times for one page.
    """

    @functools.wraps(upstream)
    def get_template(self: Loader, template_name: str, skip: Any = None) -> Template:
        if not skip and type(template_name) is str and type(self).cache_key is Loader.cache_key:
            found = self.get_template_cache.get(template_name)
            if isinstance(found, Template):
                return found
        return upstream(self, template_name, skip)

    return get_template
