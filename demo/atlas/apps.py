"""The atlas as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class AtlasConfig(AppConfig):
    name = "atlas"
    verbose_name = "Atlas"

    def ready(self) -> None:
        from . import feed  # noqa: F401  (connects its receiver)
