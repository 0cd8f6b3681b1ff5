"""Runs a server in a child process, and asks it as a client does. Standard library only."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

TESTS = Path(__file__).parent
SECONDS = 60  # until a server must have done what it is asked; a loaded machine is slow

# A shell starts its background jobs with SIGINT ignored, and the servers would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port():
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A child process in a process group of its own, whose output a thread collects."""

    def __init__(self, *command, cwd=TESTS, **environment):
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        self._popen = subprocess.Popen(
            [sys.executable, "-W", "error", *command],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self._ended = False
        self._changed = threading.Condition()  # guards the two
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._popen.poll() is None or not self._ended:
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._reader.join()

    def _read(self):
        with self._popen.stdout as stream:
            for line in stream:
                with self._changed:
                    self.output += line
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def has(self, text, times=1, seconds=SECONDS):
        """Wait until the output has `text` that many times; return whether it has."""
        with self._changed:
            self._changed.wait_for(lambda: self.output.count(text) >= times or self._ended, seconds)
            return self.output.count(text) >= times

    def wait_for(self, text, times=1):
        """Wait until the output has `text` that many times."""
        assert self.has(text, times), f"{text!r} did not come: {self.output}"

    def signal(self, number):
        """Send a signal to the process, or SIGINT to the whole group, as Ctrl-C does."""
        if number == signal.SIGINT:
            os.killpg(self._popen.pid, number)
        else:
            os.kill(self._popen.pid, number)

    def end(self, number=None):
        """Wait for the end, after a signal if one is given. Return the status."""
        if number is not None:
            self.signal(number)
        status = self._popen.wait(SECONDS)
        self._reader.join(SECONDS)
        return status


def wait_for_port(process, port):
    """Wait until the server listens, or the process has ended."""
    pause = threading.Event()
    for _ in range(SECONDS * 20):
        assert process._popen.poll() is None, process.output
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            pause.wait(0.05)
        else:
            return
    raise AssertionError(f"The server does not listen: {process.output}")


def open_page(port, path, method="GET", host="127.0.0.1", **options):
    """Send a request; return the connection, and the response when its headers have come."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request(method, path, **options)
        return connection, connection.getresponse()
    except BaseException:
        connection.close()
        raise


def get(port, path, **options):
    connection, response = open_page(port, path, **options)
    with closing(connection), response:
        return response.status, response.read().decode()


def state(port, **wanted):
    """The state of tests/served.py, once it is as wanted."""
    query = "&".join(f"{name}={value}" for name, value in wanted.items())
    status, text = get(port, f"/state/?{query}")
    assert status == 200, text
    return json.loads(text)


@contextmanager
def stream(port, path):
    """An open response; leaving the block cuts the connection."""
    connection, response = open_page(port, path)
    with closing(connection), response:
        yield response
        # With a bare close() unread bytes would keep the connection half open.
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def abandon(port, request, *, when=lambda: None):
    """Send the bytes of a request, wait by `when`, and go away without reading an answer."""
    with closing(socket.create_connection(("127.0.0.1", port), SECONDS)) as client:
        client.sendall(request)
        when()


@contextmanager
def handshake(port, path, origin=None):
    """Ask for a WebSocket (RFC 6455): the socket, a reader after the headers, and the status."""
    with closing(socket.create_connection(("127.0.0.1", port), SECONDS)) as client:
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Origin: {origin or f'http://127.0.0.1:{port}'}\r\n\r\n".encode()
        )
        with client.makefile("rb") as reader:
            status = int(reader.readline().split()[1])
            while reader.readline().strip():
                pass
            yield client, reader, status


@contextmanager
def websocket(port, path):
    """An open WebSocket: a function that sends a short text and returns the answer."""
    with handshake(port, path) as (client, reader, status):
        assert status == 101

        def echo(text):
            mask = os.urandom(4)
            masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text.encode()))
            client.sendall(bytes([0x81, 0x80 | len(masked)]) + mask + masked)
            _opcode, length = reader.read(2)
            return reader.read(length).decode()

        yield echo
