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
    """Render the template: `Template.arender(context, request)`. The loop goes on while it waits.

    The arguments, the result and the errors are those of `render()`. May be called by any
    coroutine. Templates of Jinja2 have this method too.
    """
    return await run(self.render, context, request)


def astream(
    self: Template, context: Context = None, request: HttpRequest | None = None
) -> AsyncGenerator[str, None]:
    """Yield the page piece by piece: `Template.astream(context, request)`.

    Each piece is the text that was rendered before the next wait; joined, the pieces are what
    `render()` returns. Context processors have run before the first piece. If the render fails, the
    text so far is yielded and then the error is raised. Close the generator (`aclose()`) if you
    stop before its end. May be consumed by any coroutine.
    """
    return stream(functools.partial(self.render, context, request), Sink(self.template))
