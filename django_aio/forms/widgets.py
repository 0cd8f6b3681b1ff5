"""Widgets of one's own, with `async def` methods.

(Django documentation, "Widgets".)
"""

from __future__ import annotations

from django.forms.widgets import Widget

from django_aio.forms.subclasses import adopt_methods
from django_aio.hooks import adopting

widget_init_subclass = adopting(Widget, adopt_methods)
