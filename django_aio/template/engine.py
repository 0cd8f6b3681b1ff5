"""Context processors of either colour, where the policy says: those of the settings.

For the engines of both backends.
"""

from __future__ import annotations

from typing import Any

from django.utils.functional import cached_property

from django_aio.template.calls import adapt


def processors(upstream: cached_property[Any]) -> cached_property[Any]:
    """`template_context_processors` of an engine: its functions, adapted."""
    find = upstream.func

    def template_context_processors(self: Any) -> Any:
        found = find(self)
        return type(found)(adapt(processor, "context processor") for processor in found)

    adapted = cached_property(template_context_processors)
    adapted.__set_name__(None, "template_context_processors")  # type: ignore[arg-type]
    return adapted
