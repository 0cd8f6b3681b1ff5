"""The server of a live test: uvicorn on a loop in a thread. Imported only where uvicorn is used."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from django_aio.core.servers.asgi import Server
from django_aio.protocols.exchange import Application

# Seconds. A request may go on for this long when its test is over or the server stops; then it is
# cut off, and has as long again to end.
GRACE = 2.0


class LiveServer(Server):
    """A server that says when it is ready, and does not log requests.

    Belongs to the thread that runs it; `stop()` and `settle()` may be called from any other.
    """

    def __init__(
        self,
        application: Application,
        prepare: Callable[[], Awaitable[None]],
        ready: Callable[[], None],
    ) -> None:
        super().__init__(application)
        self.config.app = application
        self.config.timeout_graceful_shutdown = int(GRACE)
        self._prepare = prepare
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start what the test shares, then the application's lifespan, then the server."""
        self._loop = asyncio.get_running_loop()
        await self._prepare()
        await super().startup(sockets)
        if self.started:
            self._ready()

    def settle(self) -> None:
        """Wait until no request is under way. Cut off requests that go on for too long.

        Raises RuntimeError if the loop is blocked.
        """
        assert self._loop is not None
        if not self.server_state.tasks:
            return
        settled = asyncio.run_coroutine_threadsafe(self._settle(), self._loop)
        try:
            settled.result(4 * GRACE)
        except TimeoutError:
            raise RuntimeError(
                f"The loop of the live server was blocked for {4 * GRACE:g} s. A coroutine, or "
                "synchronous code on the list AIO['COOPERATIVE'], does not let it go on."
            ) from None

    async def _settle(self) -> None:
        if await _left(self.server_state.tasks):
            for connection in list(self.server_state.connections):
                connection.transport.close()
            # Requests that listen for a disconnect end by themselves.
            await asyncio.sleep(0)
            for task in self.server_state.tasks:
                task.cancel()
            await _left(self.server_state.tasks)


async def _left(tasks: set[asyncio.Task[None]]) -> bool:
    """Wait for the tasks. Return whether any of them goes on for more than GRACE seconds."""
    return bool(tasks) and bool((await asyncio.wait(set(tasks), timeout=GRACE))[1])
