"""Signals: whose receivers run on the loop.

Django's `Signal` does everything. Inside the bridge a synchronous receiver is called on the loop if
the policy trusts it there, else in a thread that the sender waits for, with the sender's
connection. Coroutine receivers are awaited, concurrently among themselves. (Django documentation,
"Signals".)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from django_aio.policy import in_thread, is_cooperative

Receiver = Callable[..., Any]


class _Elsewhere:
    """A receiver that may block: in the bridge it is called in a thread.

    It equals the receiver, which `send()` returns with its answer.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __call__(self, **named: Any) -> Any:
        return in_thread(self._receiver, "receiver")(**named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._receiver, name)

    def __eq__(self, other: object) -> bool:
        return self._receiver == other

    def __hash__(self) -> int:
        return hash(self._receiver)


def live_receivers(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`Signal._live_receivers`: synchronous ones run where the policy says."""

    @functools.wraps(upstream)
    def _live_receivers(self: Any, sender: Any) -> tuple[list[Receiver], list[Receiver]]:
        synchronous, asynchronous = upstream(self, sender)
        if synchronous and asyncio._get_running_loop() is not None:
            synchronous = [
                receiver if is_cooperative(receiver) else _Elsewhere(receiver)
                for receiver in synchronous
            ]
        return synchronous, asynchronous

    return _live_receivers
