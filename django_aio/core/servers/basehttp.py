"""The development server for ASGI, in the shape of Django's `WSGIServer`.

Django's class binds the socket, so that errors, IPv6 and port 0 are handled as in stock Django;
uvicorn (the extra `server`) serves. Requests are logged by Django's own request handler, in its
format, to `django.server`. Like Django's, this server is not for production.

One server per process. `serve_forever()` may run in any thread; `stop()` is the main thread's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler, StaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.core.servers.basehttp import WSGIServer
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from django_aio.core.servers.asgi import Server


def get_internal_asgi_application() -> Any:
    """Return the project's ASGI application: `settings.ASGI_APPLICATION`, or Django's.

    The setting is the dotted path that daphne and Channels read. Raises ImproperlyConfigured where
    it cannot be imported. The counterpart of Django's `get_internal_wsgi_application()`.
    """
    path = getattr(settings, "ASGI_APPLICATION", None)
    if path is None:
        return get_asgi_application()
    try:
        return import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"The ASGI application {path!r} could not be loaded: {error}. Correct "
            "settings.ASGI_APPLICATION, or remove it to use Django's own."
        ) from error


class ASGIServer(WSGIServer):
    """Binds as Django's server does, and serves with uvicorn. Used by the thread that makes it."""

    def set_app(self, application: Any) -> None:
        """Take the application that the command made.

        The command of django.contrib.staticfiles wraps any application in its handler for WSGI.
        """
        if isinstance(application, StaticFilesHandler):
            wrapped: Any = application.application
            application = ASGIStaticFilesHandler(wrapped)
        super().set_app(application)

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until `stop()`, or in the main thread until SIGINT or SIGTERM."""
        global _server
        from django_aio.core.servers.asgi import Server  # imports uvicorn

        application: Any = self.get_app()
        _server = Server(application)
        _server.run(sockets=[self.socket])


# Set by the thread that serves, read by the main thread.
_server: Server | None = None


def stop(status: int) -> None:
    """Stop the server if there is one, and wait until it has stopped. Called by the main thread.

    If the server does not stop in time the process ends here, with `status`.
    """
    if _server is not None:
        _server.finish(status)
