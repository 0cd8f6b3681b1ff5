"""Django asynchronous from the socket to the database.

Add `"django_aio"` to `INSTALLED_APPS`; nothing else changes until you `await`. Importing this
package imports neither Django's settings nor a database driver.
"""

from django_aio.bridge import BridgeError, in_bridge, run, wait
from django_aio.policy import blocking, cooperative

__version__ = "0.1.0"

__all__ = [
    "BridgeError",
    "blocking",
    "cooperative",
    "in_bridge",
    "run",
    "wait",
]
