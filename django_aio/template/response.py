"""`SimpleTemplateResponse.arender()`, and the first of several templates.

`arender()` is for who renders such a response himself: that of a view is rendered by the handler,
in the bridge.
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
from django_aio.policy import is_cooperative, log_hop

# A name of a template in the source of another is safe text.
TEXT = frozenset({str, SafeString})

if TYPE_CHECKING:

    class _Response(SimpleTemplateResponse):
        _post_render_callbacks: list[Callable[..., Any]]


async def arender(self: _Response) -> Any:
    """Render the response, on the loop if the policy trusts its class and its callbacks there.

    Returns what `render()` does: the response, or what a callback made of it. May be called by any
    coroutine. (Django documentation, "TemplateResponse and SimpleTemplateResponse".)
    """
    code: tuple[Callable[..., Any], ...] = (type(self), *self._post_render_callbacks)
    if all(map(is_cooperative, code)):
        return await run(self.render)
    log_hop("response", type(self))
    return await sync_to_async(self.render)()


def select_template(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`select_template()`: names that the cache knows to be missing are not looked for again.

    Upstream keeps the error of each missing name until it has found one that exists, and such an
    error keeps the frames of the whole request, the response and what it shows, until the garbage
    collector comes. In the admin, where a project may override each template, every page has some.
    """

    @functools.wraps(upstream)
    def select_template(template_name_list: Sequence[str], using: str | None = None) -> Any:
        if isinstance(template_name_list, list | tuple):
            template_name_list = _from_first_known(template_name_list, using)
        return upstream(template_name_list, using=using)

    return select_template


def _from_first_known(names: Sequence[str], using: str | None) -> Sequence[str]:
    """The names from the first that exists on, if all before it are known to be missing.

    All names if one of them must be looked for, and if none exists: the error is about all.
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
    """What the cached loader of an engine knows of a name, if that is its only loader.

    The template, the class TemplateDoesNotExist or such an error, or None.
    """
    loaders = engine.template_loaders
    if len(loaders) != 1 or type(loaders[0]) is not Loader or type(template_name) not in TEXT:
        return None
    return loaders[0].get_template_cache.get(template_name)
