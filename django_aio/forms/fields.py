"""Form fields: `async def` methods of fields of one's own, and `choices` from a coroutine function.

(Django documentation, "Form fields", "Creating custom fields".)
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import iscoroutinefunction
from django.forms.fields import Field
from django.utils.choices import normalize_choices as upstream_normalize_choices

from django_aio.forms.subclasses import REMEDY, adopt_methods
from django_aio.hooks import adopting, hook

field_init_subclass = adopting(Field, adopt_methods)


def normalize_choices(value: Any, **options: Any) -> Any:
    """`normalize_choices()` for a field: a coroutine function is awaited where Django calls it."""
    if iscoroutinefunction(value):
        value = hook(value, REMEDY)
    return upstream_normalize_choices(value, **options)
