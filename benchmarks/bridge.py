"""What the bridge costs: one `run()` and one `wait()`, beside the other ways to cross over.

    python benchmarks/bridge.py

Every way does the same work, which is none: what is left is the crossing. The repetitions of all
ways take turns, so that a busy moment of the machine does not fall on one of them alone. Django is
not loaded; asgiref is measured as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter

from asgiref.sync import sync_to_async
from greenlet import greenlet

# isort: split
from report import markdown, spread

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from django_aio.bridge import run, wait

# How many waits one run() does when a wait is measured: enough to lose the run() among them.
WAITS = 100

# An asynchronous function that does a number of calls of one way of crossing.
Way = Callable[[int], Awaitable[None]]


def nothing() -> None:
    """The work: what is called synchronously."""


async def anothing() -> None:
    """The work: what is awaited. It never suspends."""


async def plain(calls: int) -> None:
    """Await a coroutine: the floor."""
    for _ in range(calls):
        await anothing()


async def turns(calls: int) -> None:
    """Give way to the loop once: the floor of a wait that suspends."""
    for _ in range(calls):
        await asyncio.sleep(0)


async def runs(calls: int) -> None:
    """Cross into synchronous code and come back."""
    for _ in range(calls):
        await run(nothing)


async def nested_runs(calls: int) -> None:
    """Cross in, out and in again: a coroutine view that queries, called by synchronous code."""
    for _ in range(calls):
        await run(wait_for_run)


def wait_for_run() -> None:
    """From synchronous code, wait for a coroutine that crosses again."""
    wait(run(nothing))


async def waits(calls: int) -> None:
    """Wait for a coroutine that finishes at once."""

    def body() -> None:
        for _ in range(WAITS):
            wait(anothing())

    for _ in range(calls // WAITS):
        await run(body)


async def waiting_turns(calls: int) -> None:
    """Wait for something that suspends: what a query does."""

    def body() -> None:
        for _ in range(WAITS):
            wait(asyncio.sleep(0))

    for _ in range(calls // WAITS):
        await run(body)


async def fresh_greenlets(calls: int) -> None:
    """Make a greenlet for each call: the bridge without its idle greenlets."""
    for _ in range(calls):
        greenlet(nothing).switch()


async def threads(calls: int) -> None:
    """Cross into a thread of the loop's executor."""
    for _ in range(calls):
        await asyncio.to_thread(nothing)


async def asgiref_threads(calls: int) -> None:
    """Cross as Django does today, into the one thread for thread-sensitive code."""
    function = sync_to_async(nothing, thread_sensitive=True)
    for _ in range(calls):
        await function()


WAYS: dict[str, Way] = {
    "await a coroutine": plain,
    "await run(func)": runs,
    "await run(func), func waits for another run()": nested_runs,
    "wait(coroutine)": waits,
    "await asyncio.sleep(0)": turns,
    "wait(asyncio.sleep(0))": waiting_turns,
    "a new greenlet for each call": fresh_greenlets,
    "await asyncio.to_thread(func)": threads,
    "await sync_to_async(func)()": asgiref_threads,
}
# These cross threads: a tenth of the calls takes as long as all of the others.
SLOW = (threads, asgiref_threads)


async def measure(calls: int, repeats: int) -> dict[str, list[float]]:
    """Microseconds per call of each way, for each repetition."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(repeats):
        for name, way in WAYS.items():
            count = calls // 10 if way in SLOW else calls
            await way(WAITS)  # warm: idle greenlets and threads exist
            start = perf_counter()
            await way(count)
            found[name].append((perf_counter() - start) / count * 1e6)
    return found


def table(found: dict[str, list[float]]) -> str:
    """The Markdown table; the last column compares with a plain await."""
    floor = statistics.median(found["await a coroutine"])
    rows = [
        [name, spread(figures, digits=2), f"{statistics.median(figures) / floor:,.0f}x"]
        for name, figures in found.items()
    ]
    return markdown(["one of", "µs (range)", "of a plain await"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000, help="per repetition")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args(arguments)
    print(table(asyncio.run(measure(max(options.calls, 10 * WAITS), options.repeats))))


if __name__ == "__main__":
    main()
