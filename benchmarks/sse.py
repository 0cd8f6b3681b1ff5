"""Ten thousand open streams of server-sent events, and a page that goes on meanwhile.

    python benchmarks/sse.py
    python benchmarks/sse.py --clients 2000 --seconds 10 --max-ratio 2

One uvicorn worker serves the site. A database page (`/row`) is asked for at a fixed rate, first
with no stream open, then while many clients listen to `/events`, each of which gets an event now
and then. The table shows the page's latency in both cases and the memory that a client costs the
server. Each request has its time in a plan, and its latency counts from there: a server that stands
still for a moment pays for all requests that were due meanwhile.

The streams are held by a process of its own. Needs uvicorn, two free cores and as many file
descriptors as clients in both processes. Linux only: the memory is that of `/proc`.

Exit status: 0; 1 if the server failed or the ratio is higher than `--max-ratio` allows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from contenders import CONTENDERS, HOST, ServerError, serve
from databases import DatabaseError, prepared
from report import markdown, ratios, spread

# How many streams are being opened at the same time: fewer than the server's backlog.
OPENING = 200
# File descriptors of a process besides those of the clients.
SPARE_FILES = 500
# How long an idle connection is used again. uvicorn closes it after 5 s.
KEEP_SECONDS = 2
HEADINGS = ["contender", "open streams", "events/s", "requests/s", "p50 ms", "p99 ms"]


# The rows of the table, and how many times the p99 without streams that with them is.
Found = tuple[list[list[str]], float]


class ClientError(RuntimeError):
    """The streams could not be opened, or one of them broke."""


@dataclass
class Load:
    """What came of one series of requests: latencies in seconds, in the order of the plan."""

    seconds: float
    latencies: list[float]

    def quantile(self, share: float) -> float:
        """The latency below which that share of the requests stayed, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


# The page alone, with the streams, events per second, KiB per client, ms of a full collection.
Round = tuple[Load, Load, float, float, int]

# The page.


class Page:
    """Asks for a page over connections that are kept open, as many as are needed at a time."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def get(self) -> None:
        """One request. Raises ClientError unless it is answered with 200."""
        reader, writer = await self._connection()
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ClientError(f"the page answered {head.splitlines()[0]!r}")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        self._idle.append((reader, writer, time.monotonic()))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer, since = self._idle.pop()
            if time.monotonic() - since < KEEP_SECONDS:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(HOST, self._port)

    async def load(self, rate: int, seconds: int) -> Load:
        """Ask `rate` times a second, whether or not the answers come."""
        latencies: list[float] = []
        start = time.perf_counter()

        async def one(due: float) -> None:
            await self.get()
            latencies.append(time.perf_counter() - due)

        async with asyncio.TaskGroup() as group:
            for number in range(rate * seconds):
                due = start + number / rate
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                group.create_task(one(due))
        return Load(time.perf_counter() - start, latencies)

    def close(self) -> None:
        for _, writer, _ in self._idle:
            writer.close()


# The clients, in a process of their own.


class Listener(asyncio.Protocol):
    """One client of the stream. Counts what it gets."""

    events = broken = 0

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.first = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if b"\n\n" not in data:
            return  # the head of the response
        if self.first.done():
            Listener.events += 1
        else:
            self.first.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        Listener.broken += 1
        if not self.first.done():
            self.first.set_exception(ClientError(f"a stream was not opened: {error}"))


async def listen(port: int, clients: int, every: float) -> None:
    """Open the streams, say so, and hold them until standard input ends. Prints what came."""
    loop = asyncio.get_running_loop()
    opening = asyncio.Semaphore(OPENING)
    path = f"/events?every={every}"
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()

    async def one() -> asyncio.BaseTransport:
        async with opening:
            transport, listener = await loop.create_connection(
                lambda: Listener(request), HOST, port
            )
            await listener.first
            return transport

    streams = await asyncio.gather(*(one() for _ in range(clients)))
    gc.freeze()
    print("open", flush=True)
    start, before = time.monotonic(), Listener.events
    while await asyncio.to_thread(sys.stdin.readline):
        seconds = time.monotonic() - start
        counted = {"events": (Listener.events - before) / seconds, "broken": Listener.broken}
        print(json.dumps(counted), flush=True)
    for stream in streams:
        stream.abort()  # type: ignore[attr-defined]
    await asyncio.sleep(0)


class Clients:
    """The process that holds the streams."""

    def __init__(self, port: int, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, f"--listen={port}"]
        command += [f"--clients={options.clients}", f"--every={options.every}"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._line() != "open\n":
            raise ClientError("the streams could not be opened")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def events_per_second(self) -> float:
        """How many events came, on average, since all streams are open. None may be broken."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        counted = json.loads(self._line())
        if counted["broken"]:
            raise ClientError(f"{counted['broken']} streams broke")
        return float(counted["events"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


# The measurement.


@contextlib.asynccontextmanager
async def listening(port: int, options: argparse.Namespace) -> AsyncIterator[Clients]:
    """Have all streams open for the length of the block."""
    clients = await asyncio.to_thread(Clients, port, options)
    try:
        yield clients
    finally:
        await asyncio.to_thread(clients.close)


def status(base: str, query: str = "") -> dict[str, int]:
    """How many streams the server has open, and its memory in bytes."""
    with urllib.request.urlopen(f"{base}/status{query}", timeout=30) as response:
        found: dict[str, int] = json.load(response)
        return found


def until_open(base: str, streams: int) -> dict[str, int]:
    """The status of the server as soon as it has that many streams open."""
    deadline = time.monotonic() + 60
    while (found := status(base))["streams"] != streams:
        if time.monotonic() > deadline:
            raise ClientError(f"the server has {found['streams']} streams open, not {streams}")
        time.sleep(0.1)
    return found


async def measure(name: str, base: str, options: argparse.Namespace) -> Found:
    """Both cases for one contender, in turns: the rows of the table, and the ratios of the p99."""
    rounds = [await one_round(base, options) for _ in range(options.rounds)]
    alone, together, events, memory, pauses = zip(*rounds, strict=True)
    found = ratios([load.quantile(0.99) for load in together], [a.quantile(0.99) for a in alone])
    # In later rounds the server uses again what it took in the first.
    print(
        f"{name}: p99 with the streams is {spread(found)} times that without; a client costs the "
        f"server {memory[0]:.1f} KiB. A full garbage collection stops the loop for "
        f"{statistics.median(pauses):.0f} ms; one was made before the measurement."
    )
    rows = [row(name, 0, [0.0], alone), row(name, options.clients, events, together)]
    return rows, statistics.median(found)


async def one_round(base: str, options: argparse.Namespace) -> Round:
    """The page alone, then with the streams; what the streams cost besides."""
    port = int(base.rpartition(":")[2])
    page = Page(port, "/row")
    await page.load(options.rate, options.warmup)
    alone = await page.load(options.rate, options.seconds)
    before = await asyncio.to_thread(until_open, base, 0)
    async with listening(port, options) as clients:
        after = await asyncio.to_thread(until_open, base, options.clients)
        # Opening them makes a full garbage collection due, sooner or later. Have it behind us.
        collected = await asyncio.to_thread(status, base, "?collect")
        await page.load(options.rate, options.warmup)
        together = await page.load(options.rate, options.seconds)
        events = await asyncio.to_thread(clients.events_per_second)
    await asyncio.to_thread(until_open, base, 0)
    page.close()
    kib = (after["memory"] - before["memory"]) / options.clients / 1024
    return alone, together, events, kib, collected["pause"]


def row(name: str, streams: int, events: Sequence[float], loads: Sequence[Load]) -> list[str]:
    """One line of the table: the medians of the rounds."""
    columns = [[load.rate for load in loads]]
    columns += [[load.quantile(share) for load in loads] for share in (0.5, 0.99)]
    rate, p50, p99 = map(statistics.median, columns)
    counts = [f"{streams:,}", f"{statistics.median(events):,.0f}", f"{rate:,.0f}"]
    return [CONTENDERS[name].title, *counts, f"{p50:.1f}", f"{p99:.1f}"]


def allow_files(wanted: int) -> None:
    """Raise the limit of open files, which the server and the clients inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise ClientError(f"{wanted} open files are needed, and the hard limit is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(options: argparse.Namespace) -> Iterator[Found]:
    """Measure each contender, on a server of its own."""
    with prepared(options.database, keep=False) as database:
        for name in options.contenders.split(","):
            with serve(CONTENDERS[name], database, threads=1) as base:
                gc.disable()  # of this process, which measures
                yield asyncio.run(measure(name, base, options))
                gc.enable()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit status."""
    options = parse(arguments)
    if options.listen:
        gc.disable()
        asyncio.run(listen(options.listen, options.clients, options.every))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        allow_files(options.clients + SPARE_FILES)
        found = list(run(options))
    except (ClientError, DatabaseError, ServerError, TimeoutError, ExceptionGroup) as error:
        print(f"error: {error!r}", file=sys.stderr)
        return 1
    rows = [line for lines, _ in found for line in lines]
    print("", markdown(HEADINGS, rows), "", f"Load average: {os.getloadavg()[0]:.1f}.", sep="\n")
    too_high = [ratio for _, ratio in found if options.max_ratio and ratio >= options.max_ratio]
    return int(bool(too_high))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--clients", type=int, default=10_000, help="streams that are open")
    add("--every", type=float, default=30, help="seconds between two events of a stream")
    add("--rate", type=int, default=200, help="requests per second for the page")
    add("--seconds", type=int, default=20, help="of each measurement")
    add("--rounds", type=int, default=3)
    add("--warmup", type=int, default=3, help="seconds before each measurement")
    add("--contenders", default="aio", help=", ".join(CONTENDERS))
    add("--database", choices=["postgresql", "sqlite"], default="postgresql")
    add("--max-ratio", type=float, help="exit with 1 unless the p99 ratio is lower")
    add("--listen", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
