"""Columns and read-only fields: what a coroutine function returns is what is shown.

`list_display` and `readonly_fields` may name coroutine functions: methods of the admin class or of
the model, or functions themselves. They are awaited one after another, as they are needed.

Called while a page of the admin is rendered, in any thread.
"""

from __future__ import annotations

from types import CoroutineType
from typing import Any

from django.contrib.admin import utils

from django_aio.contrib.auth.answers import settle
from django_aio.parts import name_of


def lookup_field(name: Any, obj: Any, model_admin: Any = None) -> tuple[Any, Any, Any]:
    """Stands in for `lookup_field()` where a value is shown. Returns what that returns."""
    field, attribute, value = utils.lookup_field(name, obj, model_admin)
    if type(value) is CoroutineType:
        value = settle(value, name if isinstance(name, str) else name_of(name))
    return field, attribute, value
