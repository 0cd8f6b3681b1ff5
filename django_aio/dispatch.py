"""Signals: where their receivers run.

Django's `Signal` does everything. Inside the bridge a synchronous receiver is called on the loop if
the policy trusts it there, else in a thread that the sender waits for, with the sender's
connection. Coroutine receivers are awaited concurrently, each in a task of its own: they join a
transaction of the sender, and a transaction that one of them opens is its own. (Django
documentation, "Signals".)

The patches are called by the code that sends a signal. Outside the bridge, and where no loop runs,
they change nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from django.dispatch import Signal

from django_aio.db.blocks import innermost
from django_aio.policy import in_thread, is_cooperative

Receiver = Callable[..., Any]


class _Threaded:
    """A receiver that may block: in the bridge it is called in a thread.

    It equals the receiver itself, because `send()` returns it with its result.
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
    """`Signal._live_receivers`: synchronous receivers run where the policy says."""

    @functools.wraps(upstream)
    def _live_receivers(self: Signal, sender: object) -> tuple[list[Receiver], list[Receiver]]:
        synchronous, asynchronous = upstream(self, sender)
        if synchronous and asyncio._get_running_loop() is not None:
            synchronous = [
                receiver if is_cooperative(receiver) else _Threaded(receiver)
                for receiver in synchronous
            ]
        return synchronous, asynchronous

    return _live_receivers


def run_parallel(upstream: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`_run_parallel()`: receivers share a context, as Django 6.1 has it, but no transaction."""

    @functools.wraps(upstream)
    async def _run_parallel(*receivers: Coroutine[Any, Any, Any]) -> Any:
        if len(receivers) > 1:
            return await upstream(*map(_Apart, receivers))
        return await upstream(*receivers)

    return _run_parallel


class _Apart:
    """A receiver whose open transactions its siblings do not see. Awaited once, by one task.

    A context variable says which block a task is in, and here the tasks share one context: a task
    would join the transaction that another one opens, and be rolled back with it. So each step of a
    receiver sets the variable to the receiver's own block, and puts the shared value back after it.
    """

    def __init__(self, receiver: Coroutine[Any, Any, Any]) -> None:
        self._receiver = receiver
        self._block = innermost.get()

    def __await__(self) -> Generator[Any, Any, Any]:
        step, value = self._receiver.send, None
        while True:
            try:
                awaited = self._step(step, value)
            except StopIteration as end:
                return end.value
            try:
                step, value = self._receiver.send, (yield awaited)
            except BaseException as error:  # a cancellation, for the receiver to see
                step, value = self._receiver.throw, error

    def _step(self, step: Callable[[Any], Any], value: object) -> Any:
        shared = innermost.get()
        innermost.set(self._block)
        try:
            return step(value)
        finally:
            self._block = innermost.get()
            innermost.set(shared)
