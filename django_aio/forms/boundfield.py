"""Bound fields of one's own, with `async def` methods.

(Django documentation, "BoundField".)
"""

from __future__ import annotations

from django.forms.boundfield import BoundField

from django_aio.forms.subclasses import adopt_methods
from django_aio.hooks import adopting

bound_field_init_subclass = adopting(BoundField, adopt_methods)
