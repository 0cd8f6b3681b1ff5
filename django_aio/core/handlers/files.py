"""The file of a FileResponse: read in a thread by large blocks, or sent by the server.

A regular file on disk is examined, read and closed in threads of the loop's executor, which serve
all requests: none of this takes long, and none of it needs the database. The first call in a thread
examines the file and reads its first block, each further call reads a block, and the last one
closes the file. A file that is shorter than a block takes one call.

If the server offers `http.response.pathsend` and the response is the whole file, unchanged, the
server gets its path. The answer to HEAD has no body, so nothing is read for it.

(ASGI 3.0, extension "Path Send"; Django documentation, "FileResponse objects".)
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from django.core.files.base import File
from django.http import FileResponse, HttpRequest, HttpResponseBase

from django_aio.http import Sender, StreamingResponse, close, send_body
from django_aio.protocols.messages import Send
from django_aio.threads import in_any_thread

# How much one call in a thread reads, in bytes. The cost of the call is then small beside that of
# the reading. Django sends a block in messages of 64 KiB.
BLOCK_SIZE = 2**18
PATHSEND = "http.response.pathsend"


def unwrapped(file: object) -> Any:
    """The file object that Python opened for one of Django's."""
    while isinstance(file, File):
        file = file.file
    return file


def in_memory(file: object) -> bool:
    """Whether reading the file cannot block."""
    return type(unwrapped(file)) is io.BytesIO


def on_disk(file: object) -> bool:
    """Whether this is a regular file that Python opened, not a pipe, socket or remote object."""
    file = unwrapped(file)
    if not isinstance(file, (io.BufferedReader, io.BufferedRandom, io.FileIO)) or file.closed:
        return False
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:  # a reader that has no descriptor
        return False


def close_unsent(answer: object) -> None:
    """Close a response that nobody will send, because its request was cancelled."""
    if isinstance(answer, FileResponse):
        close(answer)


class DiskFile:
    """A response whose content is a file on disk. Made in a thread, then sent by one task."""

    def __init__(self, response: StreamingResponse, request: HttpRequest | None) -> None:
        self._response = response
        self._blocks = response._iterator
        self._over = False  # the file is closed: read to its end, or not to be read
        self._first = b""
        is_head = request is not None and request.method == "HEAD"
        self._path = None if is_head else path_to_send(response, request)
        if is_head or self._path is not None:
            self._close()
        else:
            self._first = self._read()

    def _close(self) -> None:
        self._over = True
        close(self._response)

    def _read(self) -> bytes:
        """The next block. A short one is the last. In a thread."""
        self._response.block_size = BLOCK_SIZE
        block: bytes = next(self._blocks, b"")
        if len(block) < BLOCK_SIZE:
            self._close()
        return block

    async def _chunks(self) -> AsyncGenerator[bytes]:
        block = self._first
        while block:
            yield block
            block = b"" if self._over else await in_any_thread(self._read)

    async def send(self, sender: Sender, send: Send) -> None:
        """Send the response by Django's `sender`. Raises what `send` raises."""
        path = self._path

        async def send_path(message: Mapping[str, Any]) -> None:
            is_body = message["type"] == "http.response.body"
            await send({"type": PATHSEND, "path": path} if is_body else message)

        try:
            await send_body(sender, self._response, send_path if path else send, self._chunks())
        finally:
            if not self._over:
                await in_any_thread(self._close)


def path_to_send(response: StreamingResponse, request: HttpRequest | None) -> str | None:
    """The absolute path of a response's file, if the server can send the file itself, else None.

    It can if it offers to, and if the file under that path is all that the response would send.
    """
    if PATHSEND not in (getattr(request, "scope", {}).get("extensions") or {}):
        return None
    file = unwrapped(response.file_to_stream)
    if not isinstance(file.name, str) or not _is_whole(response) or file.tell():
        return None
    found = os.fstat(file.fileno())
    try:
        under_path = os.stat(file.name)
    except OSError:  # deleted or renamed since it was opened
        return None
    if not os.path.samestat(found, under_path):
        return None
    sized = str(response.headers.get("Content-Length", found.st_size)) == str(found.st_size)
    return os.path.abspath(file.name) if sized else None


def _is_whole(response: HttpResponseBase) -> bool:
    encoded = any(name in response.headers for name in ("Content-Encoding", "Content-Range"))
    return response.status_code == 200 and not encoded
