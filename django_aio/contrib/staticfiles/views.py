"""`django.contrib.staticfiles.views.serve` on the loop: the finders look in a thread.

See `django_aio.views.static`. (Django documentation, "Static file development view".)
"""

from __future__ import annotations

from django_aio.views.static import serve

__all__ = ["serve"]
