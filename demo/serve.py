"""Prepare the database and serve the demo: what `scripts/demo` runs.

    HOST=127.0.0.1 PORT=8000 DATABASE_URL=... python demo/serve.py

PORT=0 takes any free port. The address is printed once the server answers.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress

import django
import uvicorn
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from project import database

HOST = os.environ.get("HOST") or "127.0.0.1"
PORT = os.environ.get("PORT") or "8000"


class Server(uvicorn.Server):
    """uvicorn, with two additions: it says where to look, and it lets go of the open feeds."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            say(f"\n  The atlas is at {address(sockets[0])} (log in as demo, password demo)")
            say("  Ctrl-C stops it.\n")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the feeds first: uvicorn waits for open responses, and no feed ends by itself."""
        from atlas import feed

        feed.publish(None)
        await super().shutdown(sockets)


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    try:
        listener = bind()  # first, so that a port in use is reported before the data are loaded
        prepare()
    except (ImproperlyConfigured, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("Interrupted. What was under way is undone; the next start does it again.")
        return 130
    config = uvicorn.Config("project.asgi:application", log_level="info", lifespan="auto")
    server = Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after an orderly shutdown
        server.run(sockets=[listener])
    return 0 if server.started else 1


def bind() -> socket.socket:
    """Take the address without listening yet. Raises OSError with advice."""
    family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, int(PORT)))
    except (OSError, OverflowError, ValueError) as error:
        raise OSError(
            f"Cannot listen on HOST={HOST} PORT={PORT}: {error}. "
            "Choose another, for example: PORT=8001 scripts/demo"
        ) from None
    return listener


def prepare() -> None:
    """Make the database ready: existing, migrated, filled. Quick when it is.

    Raises ConnectionError, with advice, where the database server cannot be used.
    """
    create_database(settings.DATABASES["default"])
    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    call_command("load_atlas")
    release_connections()


def create_database(config: database.Config) -> None:
    """Create the database if it is missing. Raises as `prepare()` does."""
    try:
        if database.create_if_missing(config):
            say(f"Created the database {config['NAME']!r}.")
    except ImportError as error:
        raise ImproperlyConfigured(f"DATABASE_URL needs psycopg: {error}") from error
    except Exception as error:
        import psycopg

        if not isinstance(error, psycopg.Error):
            raise
        raise ConnectionError(
            f"The database {config['NAME']!r} cannot be used:\n  {str(error).strip()}\n"
            f"If it is missing and you may not create it, ask for: CREATE DATABASE {config['NAME']}"
        ) from None


def release_connections() -> None:
    """Give back what the preparation used: the server opens its own, on its own loop."""
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        connection.close()
        if connection.vendor == "postgresql":
            connection.close_pool()


def address(listener: socket.socket) -> str:
    """Where a browser on this machine finds it: 0.0.0.0 means everywhere, but is no address."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
