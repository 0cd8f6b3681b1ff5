"""List filters: `lookups()`, `queryset()`, `choices()` and the rest may be coroutine functions.

`choices()` is a generator in Django; a coroutine function in its place returns a list.

Called by whoever serves the admin, in any thread. (Django documentation, "ModelAdmin List
Filters".)
"""

from __future__ import annotations

import functools

from django.contrib.admin.filters import ListFilter

from django_aio.contrib.admin.options import adopt_class
from django_aio.hooks import adopting

# `ListFilter.__init_subclass__`: see adopting().
init_subclass = adopting(ListFilter, functools.partial(adopt_class, prefixes=("has_",)))
