"""A live server for tests that serves ASGI, for browsers and other clients that need a socket.

The classes correspond to `LiveServerTestCase` (django.test) and `StaticLiveServerTestCase`
(django.contrib.staticfiles.testing): they derive from the former and have the same attributes.
uvicorn (the extra `server`) serves the project's ASGI application, websockets and streams included.

- `class Tests(ASGILiveServerTestCase)` commits, as Django's class does, and tables are flushed.
- `class Tests(ASGILiveServerTestCase, TestCase)` is in `TestCase`'s transactions, and so are the
  requests: they see what `setUpTestData()` and the test have written, the test sees what they
  write, and all of it is rolled back.

When a test ends, the requests that are under way have two seconds to end as well; then they are cut
off. An error while the server starts is raised by `setUpClass()`.

(Django documentation, "Testing tools", LiveServerTestCase.)
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import testcases
from django.test.testcases import LiveServerTestCase, LiveServerThread

from django_aio.core.servers.basehttp import get_internal_asgi_application
from django_aio.db.blocks import innermost
from django_aio.protocols.exchange import Application
from django_aio.protocols.messages import Receive, Scope, Send
from django_aio.test.files import served_by
from django_aio.test.patience import patient
from django_aio.test.sharing import Sharing

if TYPE_CHECKING:
    from django_aio.test.server import LiveServer

# Seconds until the server must have started, or stopped.
START_SECONDS = 30.0
STOP_SECONDS = 15.0


class ASGILiveServerThread(LiveServerThread):
    """The thread of a live server, which runs a loop.

    Drop-in for `LiveServerTestCase.server_thread_class`. The thread of the test makes it and calls
    `start()`, `settle()` and `terminate()`.
    """

    def __init__(self, host: str, static_handler: type[WSGIHandler], **kwargs: Any) -> None:
        super().__init__(host, static_handler, **kwargs)
        self.daemon = True
        self._sharing = Sharing(self.connections_override or {})
        self._server: LiveServer | None = None
        self._failure = ""
        self._stopping = False

    def get_application(self) -> Any:
        """Return the ASGI application to serve: `settings.ASGI_APPLICATION`, or Django's.

        In front of it are the files below STATIC_URL, by `static_handler`, and below MEDIA_URL.
        """
        named = getattr(settings, "ASGI_APPLICATION", None)
        application = get_internal_asgi_application() if named else ASGIHandler()
        media = testcases._MediaFilesHandler
        return served_by(self.static_handler, served_by(media, application))

    def start(self) -> None:
        """Start the server, and wait until it serves or has failed. `error` then says why.

        Raises ImproperlyConfigured without uvicorn.
        """
        if importlib.util.find_spec("uvicorn") is None:
            raise ImproperlyConfigured(
                f"{type(self).__name__} serves by uvicorn, which is not installed. To install it: "
                "pip install 'django-aio[server]'. Django's own LiveServerTestCase, which serves "
                "WSGI, does not need it."
            )
        try:
            self._sharing.begin()
            super().start()
            if not self.is_ready.wait(START_SECONDS):
                self._fail(f"it was not ready after {START_SECONDS:g} s")
        except BaseException:
            self._sharing.end()
            raise

    def run(self) -> None:
        """Serve until `terminate()`."""
        from django_aio.test.server import LiveServer

        try:
            self.httpd: Any = self._create_server()  # type: ignore[attr-defined]
            self.port = self.httpd.server_address[1]
            application = self.get_application()
            self._server = LiveServer(
                _Application(application, self), self._sharing.serve, self.is_ready.set
            )
            if not self._stopping:
                self._server.run([self.httpd.socket])
        except SystemExit:  # uvicorn could not start
            pass
        except BaseException as error:
            self.error = error  # type: ignore[assignment]
        finally:
            if not self.is_ready.is_set():
                self._fail(self._failure or "see the log of uvicorn.error")
            if hasattr(self, "httpd"):
                self.httpd.server_close()
            self.is_ready.set()

    def _fail(self, why: str) -> None:
        if self.error is None:
            self.error = RuntimeError(  # type: ignore[assignment]
                f"The live server did not start: {why}."
            )

    def settle(self) -> None:
        """Wait for the requests that are under way, as at the end of each test."""
        if self._server is not None and self.is_alive():
            self._server.settle()

    def terminate(self) -> None:
        """Stop the server, and wait until it has stopped. Calling this again does nothing.

        Raises RuntimeError if a request does not let it end.
        """
        self._stopping = True
        try:
            if self._server is not None:
                self._server.stop()
            if self.ident is not None:
                self.join(STOP_SECONDS)
            if self.is_alive():
                raise RuntimeError(
                    f"The live server goes on {STOP_SECONDS:g} s after it was told to stop: a "
                    "request of it blocks its thread or its loop. Let the test wait for what it "
                    "has started."
                )
        finally:
            self._sharing.end()


class _Application:
    """The application that the server runs: each scope joins the transaction of the test."""

    def __init__(self, application: Application, thread: ASGILiveServerThread) -> None:
        self._application = application
        self._thread = thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = self._thread._sharing.place
        if place is not None:
            innermost.set(place)
            if scope["type"] == "http":
                receive, send = patient(receive, send)
        if scope["type"] == "lifespan":
            send = self._noting_failure(send)
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            # The server itself cancels, and would log the cancellation as the application's error.
            if scope["type"] == "lifespan":
                raise

    def _noting_failure(self, send: Send) -> Send:
        async def noting_send(message: Mapping[str, Any]) -> None:
            if message["type"] == "lifespan.startup.failed":
                self._thread._failure = message.get("message", "")
            await send(message)

        return noting_send


class ASGILiveServerTestCase(LiveServerTestCase):
    """`django.test.LiveServerTestCase`, served by ASGI. See the module.

    With `TestCase` as a further base class the server's requests are in the test's transaction.
    """

    server_thread_class = ASGILiveServerThread

    @classmethod
    def _start_server_thread(cls) -> None:
        try:
            super()._start_server_thread()  # type: ignore[misc]
        except BaseException:
            # unittest calls no tearDownClass() after a setUpClass() that failed: TestCase's
            # transaction would stay open.
            super(LiveServerTestCase, cls).tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        """Stop the server, before the transaction that it shares ends."""
        cls.server_thread.terminate()
        super().tearDownClass()

    def _fixture_teardown(self) -> None:
        self.server_thread.settle()
        super()._fixture_teardown()  # type: ignore[misc]


class ASGIStaticLiveServerTestCase(ASGILiveServerTestCase):
    """`StaticLiveServerTestCase` of django.contrib.staticfiles, served by ASGI.

    Static files are those that the finders find, without `collectstatic`.
    """

    static_handler = StaticFilesHandler
