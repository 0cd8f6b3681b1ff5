"""List filters: `lookups()`, `queryset()`, `choices()` and the rest may be coroutine functions.

`choices()` is a generator in Django; a coroutine function in its place returns a list.

Called by whoever serves the admin, in any thread. (Django documentation, "ModelAdmin List
Filters".)
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin.filters import ListFilter

from django_aio.contrib.admin.options import ALL, REMEDY
from django_aio.hooks import adopt, adopting


def adopt_filter(cls: Any) -> None:
    """Turn the coroutine functions of a filter class into hooks."""
    adopt(cls, REMEDY, prefixes=("has_",), unmarked=ALL)


# `ListFilter.__init_subclass__`: see adopting().
init_subclass = adopting(ListFilter, adopt_filter)
