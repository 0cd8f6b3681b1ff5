"""Django's test tools on the loop.

`ASGILiveServerTestCase` and `ASGIStaticLiveServerTestCase` correspond to Django's classes of those
names without `ASGI`. They are imported when first used: Django's own test tools import modules of
this package before they are complete themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_aio.test.live import ASGILiveServerTestCase, ASGIStaticLiveServerTestCase

__all__ = ["ASGILiveServerTestCase", "ASGIStaticLiveServerTestCase"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from django_aio.test import live

    return getattr(live, name)
