"""The static and media files of a live test, in front of an ASGI application.

The class that `LiveServerTestCase.static_handler` names serves them. It is made for WSGI, and still
decides which paths are its own and what it answers; only the protocol is ASGI.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.exceptions import SuspiciousFileOperation
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.test import testcases
from django.utils._os import safe_join

from django_aio.protocols.messages import Scope, Send
from django_aio.threads import in_any_thread


def served_by(handler: type[Any], application: Any) -> Any:
    """Put the files of `handler`, a class made for WSGI or for ASGI, in front of `application`."""
    if issubclass(handler, ASGIHandler):
        return cast(Any, handler)(application)
    files = handler(None)
    in_folder = isinstance(files, testcases.FSFilesHandler)
    if in_folder and not files.get_base_dir():
        return application
    return (_Folder if in_folder else _Files)(files, application)


class _Files(ASGIStaticFilesHandler):
    """Files that `files` finds, or else a 404."""

    def __init__(self, files: Any, application: Any) -> None:
        self.files = files
        self.application = application
        self.base_url = files.base_url

    def _should_handle(self, path: str) -> bool:
        return bool(self.files._should_handle(path))

    def get_response(self, request: HttpRequest) -> Any:
        """Answer by the handler made for WSGI. Called in a thread."""
        return self.files.get_response(request)


class _Folder(_Files):
    """Files of a folder. Other paths are the application's."""

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Mapping[str, Any]]], send: Send
    ) -> None:
        served = scope["type"] == "http" and self._should_handle(scope["path"])
        if served and await in_any_thread(self._has, scope["path"]):
            await super().__call__(scope, receive, send)
        else:
            await self.application(scope, receive, send)

    def _has(self, path: str) -> bool:
        name = self.files.file_path(path).lstrip("/")
        try:
            return os.path.isfile(safe_join(self.files.get_base_dir(), name))
        except (SuspiciousFileOperation, ValueError):
            return False
