"""`SimpleTemplateResponse.arender()`, and the first of several templates.

`arender()` is for code that renders such a response itself. The handler renders the response of a
view, in the bridge.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.template import TemplateDoesNotExist, engines
from django.template.backends.django import DjangoTemplates
from django.template.base import Template
from django.template.engine import Engine
from django.template.loaders.cached import Loader
from django.template.response import SimpleTemplateResponse
from django.utils.safestring import SafeString

from django_aio.bridge import run
from django_aio.policy import is_cooperative, log_thread

# The name of a template is safe text if it stands in the source of another template.
TEXT = frozenset({str, SafeString})

if TYPE_CHECKING:

    class _Response(SimpleTemplateResponse):
        _post_render_callbacks: list[Callable[..., Any]]


async def arender(self: _Response) -> Any:
    """Render the response, in a thread if the policy does not trust its class and its callbacks.

    Returns what `render()` returns: the response, or what a callback made of it. May be called by
    any coroutine. (Django documentation, "TemplateResponse and SimpleTemplateResponse".)
    """
    code: tuple[Callable[..., Any], ...] = (type(self), *self._post_render_callbacks)
    if all(map(is_cooperative, code)):
        return await run(self.render)
    log_thread("response", type(self))
    return await sync_to_async(self.render)()


def select_template(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`select_template()`: skip names that the cache knows to be missing.

    Upstream keeps the error of each missing name until it finds a template that exists. Such an
    error keeps the frames of the whole request alive, with the response and its data, until the
    garbage collector runs. Every page of the admin has such names, because a project may override
    each template.
    """

    @functools.wraps(upstream)
    def select_template(template_name_list: Sequence[str], using: str | None = None) -> Any:
        if isinstance(template_name_list, list | tuple):
            template_name_list = _from_first_known(template_name_list, using)
        return upstream(template_name_list, using=using)

    return select_template


def _from_first_known(names: Sequence[str], using: str | None) -> Sequence[str]:
    """Return the names from the first that exists on, if all before it are known to be missing.

    Returns all names if one of them must be looked for, or if none exists: the error names all.
    """
    backends = engines.all() if using is None else [engines[using]]
    if len(backends) != 1 or type(backends[0]) is not DjangoTemplates:
        return names
    for at, name in enumerate(names):
        known = _cached(backends[0].engine, str(name))
        if isinstance(known, Template):
            return names[at:]
        if known is not TemplateDoesNotExist:
            break
    return names


def _cached(engine: Engine, template_name: str) -> Any:
    """Return what the cached loader of an engine knows of a name, if that is its only loader.

    That is the template, the class TemplateDoesNotExist, an instance of it, or None.
    """
    loaders = engine.template_loaders
    if len(loaders) != 1 or type(loaders[0]) is not Loader or type(template_name) not in TEXT:
        return None
    return loaders[0].get_template_cache.get(template_name)
