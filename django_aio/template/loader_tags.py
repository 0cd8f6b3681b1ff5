"""Inheritance in pages that are streamed: `{{ block.super }}` is a value, and is not streamed."""

from __future__ import annotations

from django_aio.template.streams import collected

__all__ = ["collected"]
