"""`arender_to_string()`: find and render a template on the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.template import loader

from django_aio.bridge import run


async def arender_to_string(
    template_name: str | Sequence[str],
    context: dict[str, Any] | None = None,
    request: HttpRequest | None = None,
    using: str | None = None,
) -> str:
    """Load a template and render it. The event loop goes on while the template waits.

    The arguments, the result and the errors are those of `render_to_string()` (Django
    documentation, "django.template.loader"). May be called by any coroutine.
    """
    return await run(loader.render_to_string, template_name, context, request, using)
