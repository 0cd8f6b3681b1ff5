"""Whose synchronous code runs on the event loop.

Django's own code does, and ours. A project's or third party's code runs in a thread, as it does
in stock Django, until its module is named:

    AIO = {"COOPERATIVE": ["polls", "rest_framework"]}

A name stands for the module and everything below it. `@cooperative` and `@blocking` mark a single
callable and win over the list. The policy is asked about views and what decorates them, middleware
and its hooks, error handlers, responses that render themselves, signal receivers, authentication
backends and the tests of `user_passes_test`.

What is asked is all that a call would run as far as can be seen from outside: a function, what it
wraps (`functools.wraps` and closures), the class of a method or of a class-based view, and its
bases. One part that is not trusted is enough for a thread. What a function calls by name is not
looked at: whoever lists a module vouches for that.

The answers depend on the settings and the marks only; any thread may ask.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.signals import setting_changed

from django_aio.bridge import in_bridge, run, wait
from django_aio.conf import on_list
from django_aio.policy.parts import MARK, MARKED, inside, module_of, modules, name_of, own_mark

F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger("django_aio.policy")


def cooperative(func: F) -> F:
    """Mark a function or class: its synchronous code may run on the event loop.

    It must not block: what it waits for must go through Django (the database) or `wait()`. The mark
    covers what the function wraps, unless that is marked `@blocking`, but not the decorators that
    are put round it. Returns the same object.
    """
    return _mark(func, True)


def blocking(func: F) -> F:
    """Mark a function or class: its synchronous code may block, so it runs in a thread.

    Wins over `AIO["COOPERATIVE"]`, and so do marks on what a function wraps. Returns the same
    object.
    """
    return _mark(func, False)


def _mark(func: F, mark: bool) -> F:
    setattr(func, MARK, mark)
    if not isinstance(func, type):
        setattr(func, MARKED, id(func))
    _known.clear()
    return func


class Obstacle(NamedTuple):
    """Why a callable may not run on the loop: the part of it that is not trusted."""

    name: str
    module: str
    marked: bool

    def __str__(self) -> str:
        if self.marked:
            return f"{self.name} is marked @blocking"
        return f"{self.module} is not on the list AIO['COOPERATIVE']"


def is_cooperative(func: object) -> bool:
    """Whether the synchronous callable `func` may run on the event loop.

    It may if everything behind it (see above) is Django's, ours, on the list or marked
    `@cooperative`, and nothing is marked `@blocking`.
    """
    return obstacle(func) is None


def obstacle(func: object) -> Obstacle | None:
    """What keeps `func` from running on the event loop: the outermost part that is not trusted.

    None if nothing does. Coroutine functions need no trust.
    """
    # Functions and classes are few and live long, instances and partials may be made for a request.
    if isinstance(func, (FunctionType, type)):
        lasting, method = func, None
    elif isinstance(func, MethodType) and MARK not in getattr(func.__self__, "__dict__", ()):
        owner = func.__self__
        lasting, method = owner if isinstance(owner, type) else type(owner), func.__func__
    else:
        return _search(func)
    known = _known.get(lasting)
    if known is None:
        known = _known[lasting] = {}
    if method not in known:
        known[method] = _search(func)
    return known[method]


# For each function and class, and for the methods of the class.
_known: WeakKeyDictionary[Any, dict[Any, Obstacle | None]] = WeakKeyDictionary()


def _search(func: object) -> Obstacle | None:
    """Walk from outside in, until something is in the way."""
    queue, seen = [(func, False)], {id(func)}
    while queue:
        thing, vouched = queue.pop(0)
        mark = own_mark(thing)
        if mark is False:
            return Obstacle(name_of(thing), module_of(thing), True)
        if iscoroutinefunction(thing):
            continue
        parts = [part for part in inside(thing) if id(part) not in seen]
        if not (mark or vouched):
            for module in modules(thing, bool(parts)):
                if not on_list(module):
                    return Obstacle(name_of(thing), module, False)
        seen.update(map(id, parts))
        # What a marked function wraps is vouched for, but for an explicit objection.
        queue += [(part, vouched or bool(mark)) for part in parts]
    return None


def in_thread(
    func: Callable[..., Any], kind: str = "function", of: object = None
) -> Callable[..., Any]:
    """Return a function that, called inside the bridge, runs `func` in a thread and waits.

    The thread is the one that asgiref keeps for this request, as in stock Django, with the
    connection of the chain that waits. Anywhere else `func` is called directly. `kind` and `of` are
    what the log calls it, and whose code it is if `func` wraps that.
    """
    hop = sync_to_async(func, thread_sensitive=True)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not in_bridge():
            return func(*args, **kwargs)
        log_hop(kind, func if of is None else of)
        return wait(hop(*args, **kwargs))

    # Django names the middleware whose method has no answer.
    owner = getattr(func, "__self__", None)
    if owner is not None:
        call.__self__ = owner  # type: ignore[attr-defined]
    return call


def by_policy(func: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """Stands in for `sync_to_async` where Django calls what may be a project's code.

    What the policy trusts runs on the loop, in the bridge; the rest in a thread, as in stock
    Django.
    """
    if func is None:
        return functools.partial(by_policy, **options)
    if is_cooperative(func):
        return functools.partial(run, func)
    log_hop("method" if isinstance(func, MethodType) else "function", func)
    return sync_to_async(func, **options)


_logged: set[str] = set()


def log_hop(kind: str, func: object) -> None:
    """Say at DEBUG level that a callable goes to a thread, and why: once for each callable."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    name = name_of(func)
    if name not in _logged:
        _logged.add(name)
        logger.debug("The %s %s runs in a thread: %s.", kind, name, obstacle(func))


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "AIO":
        _known.clear()


setting_changed.connect(_forget)
