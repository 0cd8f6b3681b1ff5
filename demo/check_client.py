"""What `check.py` is made of: a server process, a client with cookies, a reader of the feed.

Standard library only, so that the check depends on nothing that it checks.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode, urlsplit

START_SECONDS = 180  # loading the data takes some seconds, on a slow disk a minute
STOP_SECONDS = 10
ANSWER_SECONDS = 30
EVENT_SECONDS = 5

FOLDER = Path(__file__).resolve().parent
READY = re.compile(r"The atlas is at (http://\S+)")


class _Lines:
    """Lines that one thread appends and another waits for; the condition guards both fields."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended = False
        self._changed = threading.Condition()

    def append(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def wait(self, seconds: float, true: Callable[[list[str]], bool]) -> bool:
        """Wait until `true(lines)`; return whether it became so before the end of time or lines."""
        with self._changed:
            self._changed.wait_for(lambda: true(self.lines) or self.ended, seconds)
            return true(self.lines)

    def wait_for_end(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.ended, seconds)


class Server:
    """A process that runs `serve.py`. Leaving the `with` block kills it if it is still there."""

    def __init__(self, environment: dict[str, str], *command: str) -> None:
        """Start it, or another command with the same Python."""
        self._lines = _Lines()
        self._process = subprocess.Popen(
            [sys.executable, *(command or [str(FOLDER / "serve.py")])],
            cwd=FOLDER,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = ""

    @property
    def output(self) -> list[str]:
        return self._lines.lines

    def __enter__(self) -> Self:
        try:
            self.address = self.wait_until_ready()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def wait_until_ready(self) -> str:
        """Wait until the server answers; return its address. Raises SystemExit if it does not."""
        self._lines.wait(START_SECONDS, lambda lines: bool(READY.search("".join(lines))))
        ready = READY.search("".join(self.output))
        if ready is None:
            raise SystemExit(f"The server did not start:\n\n{''.join(self.output)}")
        return ready[1]

    def stop(self) -> bool:
        """Ask it to stop, as Ctrl-C does; return whether it did, in time and with status 0."""
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_SECONDS) == 0
        except subprocess.TimeoutExpired:
            return False

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(STOP_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.append(line)
        self._lines.end()


@dataclass
class Answer:
    status: int
    text: str
    location: str
    seconds: float


class Client:
    """A visitor: one connection per request, cookies kept, redirections not followed."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.port = parts.hostname or "", parts.port
        self.cookies: dict[str, str] = {}

    def open(
        self, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request and return when the headers of its answer are there."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_SECONDS)
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={self.cookies[name]}" for name in self.cookies)
        if form is None:
            connection.request("GET", path, headers=headers)
        else:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request("POST", path, urlencode(form), headers)
        response = connection.getresponse()
        self._keep_cookies(response)
        return connection, response

    def request(self, path: str, form: dict[str, str] | None = None) -> Answer:
        """Return the whole answer. A server that gives none counts as status 0."""
        start = time.perf_counter()
        try:
            connection, response = self.open(path, form)
            with closing(connection):
                text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, repr(error), "", time.perf_counter() - start)
        seconds = time.perf_counter() - start
        return Answer(response.status, text, response.headers.get("Location", ""), seconds)

    def _keep_cookies(self, response: http.client.HTTPResponse) -> None:
        for header in response.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(header).items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)


class Feed:
    """An open feed of notes, read by a thread of its own."""

    def __init__(self, client: Client, last_seen: str = "") -> None:
        headers = {"Last-Event-ID": last_seen} if last_seen else {}
        self._connection, self._response = client.open("/notes/feed/", **headers)
        self._lines = _Lines()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go away, as a visitor does who closes the page.

        Closing the connection under a thread that reads from it would only confuse the thread, so
        the socket is shut down first and the thread left to find out.
        """
        if self._connection.sock is not None:
            with suppress(OSError):  # the server was quicker
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(EVENT_SECONDS)
        self._connection.close()

    def sees(self, text: str) -> bool:
        return self._lines.wait(EVENT_SECONDS, lambda lines: any(text in line for line in lines))

    def ends(self) -> bool:
        return self._lines.wait_for_end(EVENT_SECONDS)

    def _read(self) -> None:
        # An error is an end as well: __exit__() shuts the socket down, or the server cuts it off.
        with suppress(OSError, http.client.HTTPException), self._response:
            for line in self._response:
                self._lines.append(line.decode())
        self._lines.end()


class WebSocket:
    """An open websocket (RFC 6455), for messages that are short."""

    def __init__(self, client: Client, path: str) -> None:
        """Open it. Raises ConnectionRefusedError if the server answers with anything but 101."""
        self._socket = socket.create_connection((client.host, client.port), EVENT_SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        origin = f"http://{client.host}:{client.port}"
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {client.host}:{client.port}\r\nOrigin: {origin}\r\n"
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._reader = self._socket.makefile("rb")
        status = self._reader.readline()
        while self._reader.readline().strip():
            pass
        if b" 101 " not in status:
            self.close()
            raise ConnectionRefusedError(f"{path} was answered with {status!r}")

    def ask(self, text: str) -> str:
        """Send a message and return the next one of the server."""
        data, mask = text.encode(), os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self._socket.sendall(bytes((0x81, 0x80 | len(data))) + mask + masked)
        _opcode, length = self._reader.read(2)
        if length == 126:
            length = int.from_bytes(self._reader.read(2))
        return self._reader.read(length).decode()

    def close(self) -> None:
        """Go away without a word."""
        self._reader.close()
        self._socket.close()
