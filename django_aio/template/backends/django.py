"""The templates that `get_template()` returns: `arender()` and `astream()`.

(Django documentation, "Templates", "Support for template engines".)
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.template.backends.django import Template

from django_aio.bridge import run
from django_aio.template.streams import Sink, stream

if TYPE_CHECKING:
    from django.template.backends.base import _EngineTemplate

Context = dict[str, Any] | None


async def arender(
    self: _EngineTemplate, context: Context = None, request: HttpRequest | None = None
) -> str:
    """`Template.arender(context, request)`: render it; what it waits for lets the loop go on.

    The same arguments, result and errors as `render()`. May be called by any coroutine. Templates
    of Jinja2 have it too.
    """
    return await run(self.render, context, request)


def astream(
    self: Template, context: Context = None, request: HttpRequest | None = None
) -> AsyncGenerator[str, None]:
    """`Template.astream(context, request)`: yield the page piece by piece.

    Each piece is what was rendered before the next wait; joined, they are what `render()` returns.
    Context processors have run before the first one. Errors are raised after what was rendered
    before them. Close the generator (`aclose()`) if you leave it early. May be consumed by any
    coroutine.
    """
    return stream(functools.partial(self.render, context, request), Sink(self.template))
