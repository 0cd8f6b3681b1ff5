"""The switch between coroutines and synchronous code: `run()`, `wait()`, `in_bridge()`.

Django's synchronous code runs in a greenlet on the event loop. Where the code would block, a driver
calls `wait()`, which switches back to the coroutine that called `run()`; that coroutine awaits, the
loop goes on, and the result is switched back in. SQLAlchemy's asyncio extension works the same way.

    async code   await run(func)        starts a greenlet, or wakes an idle one
    sync code        func()             unmodified
    driver               wait(awaitable)    switches out: the loop goes on

What it guarantees:

- The code inside shares the task and the `contextvars` context of the code outside: a context
  variable that it sets is seen when `run()` returns.
- Exceptions and cancellation pass in both directions with their whole tracebacks.
- Nesting to any depth: a coroutine awaited by `wait()` may call `run()` again.
- One `run()` belongs to one task of one thread's loop. Nothing here is shared between threads.

It does not make blocking calls cooperative: only code that calls `wait()` lets the loop go on. This
is the only module that imports greenlet.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import FrameType
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from greenlet import getcurrent, greenlet

__all__ = ["BridgeError", "in_bridge", "refuse_monkey_patching", "run", "wait"]

P = ParamSpec("P")
T = TypeVar("T")

# An idle greenlet keeps a small stack alive. More idle ones than this would help only a loop with
# more concurrent requests, and are not worth the memory.
MAX_IDLE = 512


class BridgeError(RuntimeError):
    """The bridge was used where it cannot work. The message says what to do instead."""


class _Worker(greenlet):
    """A greenlet that runs one function after another.

    Creating a greenlet costs several times what switching to one does, so a finished worker waits
    for the next `run()` of its thread. Touched only by the thread that created it.
    """

    __slots__ = ("busy", "failure", "result")

    busy: bool  # from the start of a function to its end, also while it waits
    failure: BaseException | None  # what the function raised, until run() takes it
    result: Any  # what the function returned, until run() takes it


class _Idle(threading.local):
    """The idle workers of this thread: a greenlet can only be switched to from its own thread."""

    def __init__(self) -> None:
        self.workers: list[_Worker] = []


_idle = _Idle()


def _new_worker() -> _Worker:
    """Return a worker that sleeps already.

    A greenlet keeps its first arguments alive for good, so start it empty and not with the first
    request.
    """
    worker = _Worker(_work)
    worker.switch()
    return worker


def _work() -> None:
    """The body of every worker: sleep, call what `run()` passes in, store the result, and repeat.

    A GreenletExit that is thrown while the worker sleeps (its thread ends) ends the worker.
    """
    func: Any
    args: Any
    kwargs: Any
    func, args, kwargs = getcurrent().parent.switch()  # type: ignore[union-attr]
    while True:
        me = cast(_Worker, getcurrent())
        try:
            me.result = func(*args, **kwargs)
        except BaseException as error:  # run() raises it
            me.failure = error
            me.result = None
        else:
            me.failure = None
        me.busy = False
        # An idle worker must keep nothing of its caller alive, so drop every reference before the
        # switch. An argument of the switch would be one, so the result is in an attribute.
        func = args = kwargs = None
        # Nor may it refer to itself: a sleeping greenlet on its own stack could never be freed.
        outside, me = me.parent, None  # type: ignore[assignment]
        func, args, kwargs = outside.switch()  # type: ignore[union-attr]


async def run(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run synchronous code on the event loop, cooperatively.

    `func` starts at once, in a greenlet, and runs until it returns or calls `wait()`. It sees the
    same `asyncio.current_task()` and the same context variables as the caller.

    Returns what `func` returns and raises what it raises. A cancellation of the task is raised in
    `func`, at its `wait()`. As in every coroutine, a StopIteration becomes a RuntimeError. May be
    called from any coroutine, on any loop.
    """
    handled = sys.exception()
    if handled is not None:
        func = _while_handling(handled, func)
    workers = _idle.workers
    worker = workers.pop() if workers else _new_worker()
    here = getcurrent()
    if worker.parent is not here:
        worker.parent = here
    # The same Context object, not a copy: what `func` sets is seen when run() returns. Translation,
    # time zones, the URLconf and asgiref's Local depend on that.
    worker.gr_context = here.gr_context
    worker.busy = True
    answer = worker.switch(func, args, kwargs)
    while worker.busy:
        # `func` called wait(): its awaitable is the answer so far.
        try:
            value = await answer
        except GeneratorExit:
            _abandon(worker)
            raise
        except BaseException:
            _return_here(worker)
            # With its traceback, so that `func` sees where the awaitable failed.
            answer = worker.throw(*sys.exc_info())
        else:
            # As _return_here(), inlined because it runs for each wait.
            here = getcurrent()
            if worker.parent is not here:
                worker.parent = here
            answer = worker.switch(value)
    worker.gr_context = None
    answer, worker.result = worker.result, None
    if len(workers) < MAX_IDLE:
        workers.append(worker)
    if worker.failure is not None:
        _fail(worker)
    return cast(T, answer)


def _fail(worker: _Worker) -> NoReturn:
    """Raise what the worker's function raised."""
    error, worker.failure = worker.failure, None
    assert error is not None
    context = error.__context__
    try:
        raise error
    finally:
        # Raising it here has made the exception that run()'s caller handles its context.
        error.__context__ = context
        # The traceback holds this frame, so the frame must not hold the error.
        del error, context


def _return_here(worker: _Worker) -> None:
    """Have the worker switch back to the greenlet that runs this, not to an earlier one.

    It is nearly always the loop's. It is another one when the garbage collector closes a suspended
    run() in the middle of bridged code, and in the first step of an eager task.
    """
    worker.parent = getcurrent()


# Each greenlet has its own exception that is being handled. The caller's is handled on the other
# side too, so that `logger.exception()` and a bare `raise` work there.


def _while_handling(error: BaseException, func: Callable[P, T]) -> Callable[P, T]:
    """Return `func`, called as if from the `except` block that handles `error`."""
    traceback, context = error.__traceback__, error.__context__

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            raise error
        except BaseException:
            error.__traceback__, error.__context__ = traceback, context
            return func(*args, **kwargs)

    return call


async def _await_handling(error: BaseException, awaitable: Awaitable[T]) -> T:
    """Await as if in the `except` block that handles `error`."""
    traceback, context = error.__traceback__, error.__context__
    try:
        raise error
    except BaseException:
        error.__traceback__, error.__context__ = traceback, context
        return await awaitable


def _abandon(worker: _Worker) -> None:
    """Unwind a worker whose coroutine is being closed (its loop is gone, or nobody awaits it).

    The worker's `finally` blocks run, but nothing can be awaited any more: an awaitable that they
    wait for is closed, and they get an error. Raises what the clean-up raises, as a coroutine's
    close() does.
    """
    _return_here(worker)
    answer = worker.throw(GeneratorExit())
    while worker.busy:
        name = _discard(answer)
        answer = worker.throw(
            BridgeError(f"{name} cannot be awaited: the coroutine that called run() was closed.")
        )
    error = worker.failure
    worker.failure = worker.gr_context = None
    if error is not None and not isinstance(error, (BridgeError, GeneratorExit)):
        raise error


def wait(awaitable: Awaitable[T]) -> T:
    """Wait for an awaitable, from synchronous code that `run()` started.

    The event loop goes on meanwhile. Returns the awaitable's result and raises what it raises.
    Raises BridgeError outside `run()`; the awaitable is then closed, so that Python does not warn
    later that it was never awaited.
    """
    worker = getcurrent()
    if type(worker) is not _Worker:
        _refuse(awaitable)
    handled = sys.exception()
    if handled is not None:
        awaitable = _await_handling(handled, awaitable)
    return cast(T, worker.parent.switch(awaitable))  # type: ignore[union-attr]


def in_bridge() -> bool:
    """Whether this code was started by `run()`, so that it may call `wait()`.

    False in a coroutine, even in one that bridged code waits for, and in a greenlet that another
    library started.
    """
    return type(getcurrent()) is _Worker


def outer_frame() -> FrameType | None:
    """The frame of the `run()` that started this code, or None outside the bridge.

    Its outer frames are those of the coroutines that await it.
    """
    worker = getcurrent()
    if type(worker) is not _Worker:
        return None
    return cast("FrameType | None", worker.parent.gr_frame)  # type: ignore[union-attr]


def _refuse(awaitable: Awaitable[object]) -> NoReturn:
    name = _discard(awaitable)
    if getcurrent().parent is not None:
        where = "inside a greenlet that another library started, where it cannot switch"
        remedy = "Call it from code that run() started directly."
    elif asyncio._get_running_loop() is not None:
        where = "from a coroutine, or from a function that a coroutine called directly"
        remedy = "In a coroutine use 'await'; call the function with 'await run(function, ...)'."
    else:
        where = "outside run(), in a thread that runs no event loop"
        remedy = "Start the calling function with 'await run(function, ...)' in a coroutine."
    raise BridgeError(f"wait() was called {where}. {name} was not awaited. {remedy}")


def _discard(awaitable: object) -> str:
    """Close an awaitable that will never be awaited. Return its name for the error message."""
    if isinstance(awaitable, Coroutine):  # an async generator's anext() too
        awaitable.close()
    name = getattr(awaitable, "__qualname__", None) or type(awaitable).__qualname__
    return f"The {type(awaitable).__name__} {name}"


def refuse_monkey_patching() -> None:
    """Raise BridgeError where gevent or eventlet has patched the process.

    Both replace the threads, sockets and greenlet switching that an asyncio loop rests on.
    """
    gevent = sys.modules.get("gevent.monkey")
    eventlet = sys.modules.get("eventlet.patcher")
    for name, patched in (
        ("gevent", gevent is not None and gevent.is_anything_patched()),
        ("eventlet", eventlet is not None and bool(eventlet.already_patched)),
    ):
        if patched:
            raise BridgeError(
                f"This process is monkey-patched by {name}, which replaces the threads and sockets "
                f"that asyncio needs. Remove {name}'s monkey patching (for a server, pick a worker "
                f"class without {name}, such as uvicorn's), or remove 'django_aio' from "
                "INSTALLED_APPS."
            )


refuse_monkey_patching()
