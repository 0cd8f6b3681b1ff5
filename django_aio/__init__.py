"""Django asynchronous from the socket to the database.

Add `"django_aio"` to `INSTALLED_APPS`; nothing else changes until you `await`. Importing this
package imports neither Django's settings nor a database driver.
"""

from typing import TYPE_CHECKING, Any

from django_aio.bridge import BridgeError, in_bridge, run, wait
from django_aio.policy import blocking, cooperative

__version__ = "0.1.0"

__all__ = [
    "BridgeError",
    "blocking",
    "cooperative",
    "hold_connection",
    "in_bridge",
    "release_connection",
    "run",
    "wait",
]

if TYPE_CHECKING:
    from django_aio.db.leases import hold_connection, release_connection


def __getattr__(name: str) -> Any:
    """Import what needs Django's database layer only when it is asked for."""
    if name in ("hold_connection", "release_connection"):
        from django_aio.db import leases

        return getattr(leases, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
