"""`django.contrib.auth`: authentication backends run where the policy says.

`authenticate()`, `login()`, `get_user()` and the permissions call the backends that the settings
name. In bridged code (a synchronous view on the loop, `request.user`) the methods of a backend that
the policy does not trust run in a thread. The class of the backend keeps its name and its bases,
and `user.backend` is the path in the settings, as in stock Django. (Django documentation,
"Customizing authentication in Django".)

Called wherever a backend is loaded, in any thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.bridge import in_bridge
from django_aio.policy.classes import class_in_thread


def import_backend(upstream: Callable[[str], Any]) -> Callable[[str], Any]:
    """`import_string` where a backend is loaded: adapt the class as the policy says."""

    @functools.wraps(upstream)
    def import_string(path: str) -> Any:
        backend = upstream(path)
        if in_bridge() and isinstance(backend, type):
            return class_in_thread(backend, "authentication backend")
        return backend

    return import_string
