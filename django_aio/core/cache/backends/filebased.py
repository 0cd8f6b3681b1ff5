"""File-based caching: the files are read and written in a thread.

Inside the bridge each operation is one call in a thread of the loop's executor, with all that it
does in the file system, for many keys too; so is each `a`-prefixed method. The thread pickles the
values as well. A queryset is evaluated on the loop first, but one that is nested inside another
value is evaluated by the thread, in the caller's transaction if there is one.

A thread cannot be interrupted: a cancelled task waits until the file that it writes is complete.
Outside the bridge nothing changes. (Django documentation, "Filesystem caching".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import BaseCache

from django_aio.bridge import in_bridge
from django_aio.core.cache.backends.base import evaluate
from django_aio.policy import by_policy
from django_aio.threads import call_in_thread, in_thread_from_bridge

if TYPE_CHECKING:
    from django.core.cache.backends import filebased

    class FileBasedCache(filebased.FileBasedCache):
        """Django's class, with what its stub does not have."""

        _dir: str


# Directories that this process has made. If one is deleted, the next set() makes it again, in its
# thread. Any thread may add one; adding it twice does no harm.
_made: set[str] = set()


def storing(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`FileBasedCache.set` and `add`: evaluate a queryset, then store it in a thread."""
    storing_in_thread = in_thread_from_bridge(upstream)

    @functools.wraps(upstream)
    def call(self: FileBasedCache, key: str, value: object, *args: Any, **kwargs: Any) -> Any:
        evaluate(value)
        return storing_in_thread(self, key, value, *args, **kwargs)

    return call


def createdir(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`FileBasedCache._createdir`: in the bridge, make a directory once and in a thread.

    The constructor calls it, and each request constructs a cache object.
    """

    @functools.wraps(upstream)
    def _createdir(self: FileBasedCache) -> None:
        if not in_bridge():
            upstream(self)
        elif self._dir not in _made:
            call_in_thread(upstream, self)
            _made.add(self._dir)

    return _createdir


def _async_form(name: str) -> Callable[..., Any]:
    """The async form of a method as one call in a thread, not one for each key."""

    async def call(self: FileBasedCache, *args: Any, **kwargs: Any) -> Any:
        return await by_policy(getattr(self, name))(*args, **kwargs)

    call.__name__ = f"a{name}"
    call.__doc__ = f"`{name}()` as a whole, in one call in a thread."
    return call


_set_many = in_thread_from_bridge(BaseCache.set_many)


def set_many(self: FileBasedCache, data: Mapping[str, object], *args: Any, **kwargs: Any) -> Any:
    """`FileBasedCache.set_many`: all values in one call in a thread."""
    evaluate(data)
    return _set_many(self, data, *args, **kwargs)


# Methods that Django composes of several operations.
get_many = in_thread_from_bridge(BaseCache.get_many)
delete_many = in_thread_from_bridge(BaseCache.delete_many)
incr = in_thread_from_bridge(BaseCache.incr)
incr_version = in_thread_from_bridge(BaseCache.incr_version)
aget_many = _async_form("get_many")
aset_many = _async_form("set_many")
adelete_many = _async_form("delete_many")
aincr = _async_form("incr")
aincr_version = _async_form("incr_version")
