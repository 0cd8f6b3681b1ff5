"""What the foot of every page says about the machinery behind it."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.db import connection
from django.http import HttpRequest


def engine_room(request: HttpRequest) -> dict[str, Any]:
    """Context processor: versions and modes, none of which costs a query."""
    return {
        "django_version": django.get_version(),
        "database_name": connection.display_name,
        "stock": settings.STOCK,
    }
