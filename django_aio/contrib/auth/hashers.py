"""Password hashing: off the loop, in as many threads as there are cores.

A hasher works for a tenth of a second or longer, on purpose. Inside the bridge `encode()`,
`verify()` and `harden_runtime()` of every configured hasher run in the threads of one executor,
whoever calls them: `check_password()`, `make_password()`, a form, `acheck_password()`. Hardening
the runtime takes as long as in stock Django, so that a wrong user name cannot be told from a wrong
password by the clock; both wait in the same queue.

If a task is cancelled, hashing that still waits for a core does not begin. Hashing that runs
already runs to its end, and its result is ignored. Nothing changes outside the bridge or in the
threads: a hasher that calls itself or another one stays in its thread.

`MD5PasswordHasher`, which is there for tests, and hashers that are marked `@cooperative` work on
the loop. (Django documentation, "Password management in Django".)
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.contrib.auth import hashers
from django.views.decorators.debug import sensitive_variables

from django_aio.bridge import in_bridge, wait
from django_aio.policy.parts import own_mark

WORK = ("encode", "verify", "harden_runtime")

# With 0 the loop competes with the hashing threads for a core while clients arrive. With 10 or more
# the loop lost more than it gained: it stood still whenever a hashing thread that held Python's
# global lock lost its core to another process. Measured by benchmarks/logins.py.
NICENESS = 5


class _Threads:
    """The executor of this process, made when first needed. Shared by all loops and threads.

    `_lock` guards `_executor`. The child of a fork has none of the threads and starts anew.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, as after a fork."""
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def executor(self) -> ThreadPoolExecutor:
        """Return the executor: one thread for each core that this process may use."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(cores(), "django_aio_hashers", _step_back)
            return self._executor


def cores() -> int:
    """How many cores this process may use, as far as Python can say."""
    # From Python 3.13 on: only the cores that the process is confined to.
    count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1


def _step_back() -> None:
    """Let this thread yield the core to the loop's: on Linux each thread has a priority."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget)


def import_hasher(upstream: Callable[[str], Any]) -> Callable[[str], Any]:
    """`import_string` where hashers are loaded: return a factory of hashers that use threads."""

    @functools.wraps(upstream)
    def import_string(path: str) -> Callable[[], Any]:
        return functools.partial(_make, upstream(path))

    return import_string


def _make(factory: Callable[[], Any]) -> Any:
    hasher = factory()
    if type(hasher) is not hashers.MD5PasswordHasher and own_mark(type(hasher)) is not True:
        for name in WORK:
            setattr(hasher, name, _threaded(hasher, name))
    return hasher


def _threaded(hasher: hashers.BasePasswordHasher, name: str) -> Callable[..., Any]:
    """Return the method `name` of a hasher, which runs in a thread if called inside the bridge."""

    @sensitive_variables()  # error reports must not show the password here
    @functools.wraps(getattr(type(hasher), name))
    def call(*args: Any, **kwargs: Any) -> Any:
        @sensitive_variables()
        def work() -> Any:
            # Look the method up now: a test may have replaced it.
            return getattr(type(hasher), name)(hasher, *args, **kwargs)

        return wait(_in_thread(work)) if in_bridge() else work()

    return call


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Call `work` in one of the threads. If the task is cancelled, do not begin or wait for it."""
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads.executor(), context.run, work)


# Hashers that were made before the series was applied use no threads: make them again.
hashers.reset_hashers(setting="PASSWORD_HASHERS")
