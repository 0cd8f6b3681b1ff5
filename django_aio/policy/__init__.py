"""The policy: whose synchronous code runs on the event loop.

Django's own code does, and ours. The code of a project or third party runs in a thread, as in stock
Django, until its module is named:

    AIO = {"COOPERATIVE": ["polls", "rest_framework"]}

A name stands for the module and everything below it. `@cooperative` and `@blocking` mark a single
callable and win over the list. The policy decides on views and their decorators, middleware and its
hooks, error handlers, responses that render themselves, signal receivers, authentication backends
and the tests of `user_passes_test`.

It considers all that a call would run as far as can be seen from outside: a function, what the
function wraps (`functools.wraps` and closures), the class of a method or of a class-based view, and
the bases of that class. One part that is not trusted is enough for a thread. The policy does not
look at what a function calls by name: whoever lists a module vouches for that.

The answers depend only on the settings and the marks; any thread may ask.
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

    The code must not block: it may wait only through Django (the database) or `wait()`. The mark
    covers what the function wraps, unless that is marked `@blocking`, but not the decorators around
    the function. Returns the same object.
    """
    return _mark(func, True)


def blocking(func: F) -> F:
    """Mark a function or class: its synchronous code may block, so it runs in a thread.

    Wins over `AIO["COOPERATIVE"]`, as does such a mark on what a function wraps. Returns the same
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
    """Return the outermost part of `func` that is not trusted on the event loop, or None.

    Coroutine functions need no trust.
    """
    # Cache by functions and classes, which are few and live long. Instances and partials may be
    # made for a single request.
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


# The answers for each function and class, and for the methods of the class.
_known: WeakKeyDictionary[Any, dict[Any, Obstacle | None]] = WeakKeyDictionary()


def _search(func: object) -> Obstacle | None:
    """Walk from the outside in, until a part is not trusted."""
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
        # The mark vouches for what the function wraps, unless that is marked @blocking.
        queue += [(part, vouched or bool(mark)) for part in parts]
    return None


def in_thread(
    func: Callable[..., Any], kind: str = "function", of: object = None
) -> Callable[..., Any]:
    """Return a function that, called inside the bridge, runs `func` in a thread and waits.

    The thread is the one that asgiref keeps for this request, as in stock Django, with the
    connection of the chain that waits. Outside the bridge `func` is called directly. For the log,
    `kind` says what `func` is, and `of` is the project's callable if `func` only wraps it.
    """
    in_its_thread = sync_to_async(func, thread_sensitive=True)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not in_bridge():
            return func(*args, **kwargs)
        log_thread(kind, func if of is None else of)
        return wait(in_its_thread(*args, **kwargs))

    # Django names the middleware whose method has no answer.
    owner = getattr(func, "__self__", None)
    if owner is not None:
        call.__self__ = owner  # type: ignore[attr-defined]
    return call


def by_policy(func: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """Stand in for `sync_to_async` where Django calls code that may be a project's.

    Code that the policy trusts runs on the loop, in the bridge; other code in a thread, as in stock
    Django.
    """
    if func is None:
        return functools.partial(by_policy, **options)
    if is_cooperative(func):
        return functools.partial(run, func)
    log_thread("method" if isinstance(func, MethodType) else "function", func)
    return sync_to_async(func, **options)


_logged: set[str] = set()


def log_thread(kind: str, func: object) -> None:
    """Log at DEBUG level, once for each callable, that it runs in a thread, and why."""
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
