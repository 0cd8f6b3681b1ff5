"""`runserver` serves ASGI where uvicorn is installed; with `--wsgi` it serves WSGI.

The command stays Django's. It gets another `server_cls`, the attribute that Django provides for
this, and another application; the banner, the checks, the reloader and the messages for a port in
use are unchanged. `runserver` of django.contrib.staticfiles derives from the same class, so the
order of INSTALLED_APPS does not matter. A command with a server of its own, such as daphne's or one
that serves HTTPS, is left alone.

Called by the main thread, and `inner_run()` by the thread that the reloader starts.

(Django documentation, "django-admin and manage.py", runserver.)
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.core.management.base import OutputWrapper
from django.core.servers.basehttp import WSGIServer
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

from django_aio.core.servers.basehttp import ASGIServer, get_internal_asgi_application, stop

if TYPE_CHECKING:
    from django.core.management.commands import runserver

    class Command(runserver.Command):
        """Django's command, with what `inner_run()` notes."""

        _aio_missing: bool


Method = Callable[..., Any]

# In seconds. The child ends sooner by itself, even if one of its threads is stuck.
CHILD_SECONDS = 4.0


def add_arguments(upstream: Method) -> Method:
    """`Command.add_arguments`: the option `--wsgi`."""

    @functools.wraps(upstream)
    def add_arguments(self: Command, parser: argparse.ArgumentParser) -> None:
        upstream(self, parser)
        if type(self).server_cls is WSGIServer:
            parser.add_argument(
                "--wsgi",
                action="store_true",
                dest="use_wsgi",
                default=argparse.SUPPRESS,  # testserver passes only the options that it knows
                help="Serves WSGI, although an ASGI server is installed.",
            )

    return add_arguments


def run(upstream: Method) -> Method:
    """`Command.run`: stop the server in good order, however the command ends.

    The command ends in the main thread, by Ctrl-C, SIGTERM or a changed file; the server runs in
    another thread. At Ctrl-C the parent process, which only starts a new child after each change,
    waits for its child.
    """

    @functools.wraps(upstream)
    def run(self: Command, **options: Any) -> None:
        status = 0
        if options["use_reloader"] and os.environ.get(DJANGO_AUTORELOAD_ENV) != "true":
            _let_child_end()
        try:
            upstream(self, **options)
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
            raise
        finally:
            stop(status)

    return run


def _let_child_end() -> None:
    """Delay the effect of a first Ctrl-C on this process, because the child gets it as well.

    Python's subprocess.run() kills the child a quarter of a second after an interrupt: too early
    for a server that closes its connections and runs the project's shutdown code.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or not hasattr(signal, "setitimer"):
        return

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, CHILD_SECONDS)

    signal.signal(signal.SIGINT, first)


def inner_run(upstream: Method) -> Method:
    """`Command.inner_run`: choose the server."""

    @functools.wraps(upstream)
    def inner_run(self: Command, *args: Any, **options: Any) -> None:
        if _may_serve_asgi(self, options) and _is_installed():
            self.server_cls = ASGIServer
        self._aio_missing = _may_serve_asgi(self, options) and not _is_installed()
        upstream(self, *args, **options)

    return inner_run


def get_handler(upstream: Method) -> Method:
    """`Command.get_handler`: return the application that the chosen server understands."""

    @functools.wraps(upstream)
    def get_handler(self: Command, *args: Any, **options: Any) -> Any:
        if self.server_cls is ASGIServer:
            return get_internal_asgi_application()
        return upstream(self, *args, **options)

    return get_handler


def on_bind(upstream: Method) -> Method:
    """`Command.on_bind`: have the banner say which kind of server this is, and why."""

    @functools.wraps(upstream)
    def on_bind(self: Command, server_port: int) -> None:
        stdout, banner = self.stdout, io.StringIO()
        self.stdout = OutputWrapper(banner)
        try:
            upstream(self, server_port)
        finally:
            self.stdout = stdout
        text = banner.getvalue()
        if self.server_cls is ASGIServer:
            text = text.replace("WSGI development server", "ASGI development server", 1)
        stdout.write(text, ending="")
        if getattr(self, "_aio_missing", False):
            stdout.write(
                self.style.NOTICE(
                    "This is the WSGI server, as uvicorn is not installed. For ASGI: "
                    "pip install 'django-aio[server]'"
                )
            )

    return on_bind


def _may_serve_asgi(command: Command, options: dict[str, Any]) -> bool:
    """Whether neither the user nor a command derived from Django's asks for another server."""
    return type(command).server_cls is WSGIServer and not options.get("use_wsgi")


def _is_installed() -> bool:
    return importlib.util.find_spec("uvicorn") is not None
