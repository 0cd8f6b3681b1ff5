"""A socket that a loop watches for whoever waits for a statement's answer."""

from __future__ import annotations

import asyncio

from psycopg.waiting import Ready, Wait


class Watch:
    """A socket that a loop watches for one waiter. Touched by that loop's thread."""

    __slots__ = ("loop", "ready", "socket", "waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: int) -> None:
        self.loop = loop
        self.socket = socket
        self.waiter: asyncio.Future[None] | None = None
        self.ready = 0

    def add(self, wanted: int) -> None:
        """Have the loop watch the socket."""
        if wanted & Wait.R:
            self.loop.add_reader(self.socket, self.wake, Ready.R)
        if wanted & Wait.W:
            self.loop.add_writer(self.socket, self.wake, Ready.W)

    def remove(self) -> None:
        """Have the loop stop watching the socket."""
        self.loop.remove_reader(self.socket)
        self.loop.remove_writer(self.socket)

    def wake(self, state: int = 0) -> None:
        """Wake the waiter, because the socket is ready or the time is up."""
        self.ready |= state
        if self.waiter is not None:
            resolve(self.waiter)

    async def answered(self, *, insists: bool) -> bool:
        """Wait once. Returns whether the socket is ready. `insists` ignores a cancellation."""
        self.waiter = self.loop.create_future()
        try:
            await self.waiter
        except asyncio.CancelledError:
            if not insists:
                raise
        return bool(self.ready)


def resolve(waiter: asyncio.Future[None]) -> None:
    """Let a waiter go on, unless it has been told already."""
    if not waiter.done():
        waiter.set_result(None)
