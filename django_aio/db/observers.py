"""R11: who watches a connection watches those of the tasks that were started under it.

Django keeps on the connection object who wants to know of its statements: `execute_wrapper()`,
`force_debug_cursor`, and the log behind `connection.queries`, `CaptureQueriesContext` and
`assertNumQueries()`. A task has a connection of its own, so it takes them over: the list, the log
and the flag of its parent's are looked at for each of its statements, as long as the parent's chain
has not ended. What the task adds itself is its own.

Each statement is seen once by each observer. Called by the task or thread that the connection is
of. (Django documentation, "Database instrumentation".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from django_aio.db.types import Wrapper


class Watched:
    """That a connection is watched. Made anew for each chain that has the connection object."""

    __slots__ = ("by_debug", "ended", "follow", "wrapper")

    def __init__(self, wrapper: Wrapper) -> None:
        self.wrapper = wrapper
        self.ended = False
        self.by_debug = False  # whether all its statements are logged, because DEBUG is on
        # What a package does to the connection of a task, to see it by other means than Django's.
        self.follow: Callable[[Any], None] | None = None

    def is_asked_for(self) -> bool:
        """Whether somebody watches now, in whose block this is."""
        return bool(self.wrapper.execute_wrappers) or bool(self.wrapper.force_debug_cursor)


_NONE: Mapping[str, Watched] = MappingProxyType({})

# The watched connections under which this context was made, by alias. Replaced, never changed.
_watched: ContextVar[Mapping[str, Watched]] = ContextVar("django_aio_watched", default=_NONE)

# Attributes of a connection: that it is watched, and under which one it was taken.
WATCHED, PARENT = "_aio_watched", "_aio_watched_under"


class Inherited(list[Any]):
    """The `execute_wrappers` of a task's connection: those of its parent's, then its own."""

    def __init__(self, parents: list[Any]) -> None:
        super().__init__()
        self._parents = parents

    def _all(self) -> list[Any]:
        own = list(super().__iter__())
        return [each for each in self._parents if each not in own] + own

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all())

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._all()[::-1])

    def __len__(self) -> int:
        return len(self._all())


def begin(
    wrapper: Wrapper, *, by_debug: bool = False, follow: Callable[[Any], None] | None = None
) -> None:
    """Somebody watches the connection: tasks that start from here on take him over.

    `follow(connection)` is called with the connection of each.
    """
    watched = vars(wrapper).get(WATCHED)
    if watched is None:
        watched = vars(wrapper)[WATCHED] = Watched(wrapper)
    watched.by_debug = watched.by_debug or by_debug
    watched.follow = follow or watched.follow
    if _watched.get().get(wrapper.alias) is not watched:
        _watched.set({**_watched.get(), wrapper.alias: watched})


def take_over(wrapper: Wrapper) -> None:
    """A chain has got a connection: whoever watches the one that it was started under sees it."""
    watched = _watched.get().get(wrapper.alias)
    if watched is not None and not watched.ended and watched.wrapper is not wrapper:
        if watched.is_asked_for() or (watched.by_debug and settings.DEBUG):
            vars(wrapper)[PARENT] = watched
            wrapper.execute_wrappers = Inherited(watched.wrapper.execute_wrappers)
            wrapper.queries_log = watched.wrapper.queries_log
        if watched.follow is not None:
            watched.follow(wrapper)
    if settings.DEBUG:
        begin(wrapper, by_debug=True)


def begin_request() -> None:
    """A request begins in this context: its log is not that of the code that started the server."""
    inherited = _watched.get()
    if inherited:
        _watched.set({alias: each for alias, each in inherited.items() if each.is_asked_for()})


def leave(wrapper: Wrapper) -> None:
    """The chain that had the connection has ended: nothing of its observers is left on it."""
    attributes = vars(wrapper)
    watched = attributes.pop(WATCHED, None)
    attributes.pop(PARENT, None)
    if watched is not None:
        watched.ended = True
    if isinstance(wrapper.execute_wrappers, Inherited):
        wrapper.execute_wrappers = list(list.__iter__(wrapper.execute_wrappers))


def execute_wrapper(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseDatabaseWrapper.execute_wrapper`: sees the statements of tasks too."""

    @functools.wraps(upstream)
    def execute_wrapper(self: Wrapper, wrapper: Callable[..., Any]) -> Any:
        begin(self)
        return upstream(self, wrapper)

    return execute_wrapper


def _get_force_debug_cursor(wrapper: Wrapper) -> bool:
    """Whether statements are logged though DEBUG is off."""
    if vars(wrapper)["force_debug_cursor"]:
        return True
    parent = vars(wrapper).get(PARENT)
    return parent is not None and not parent.ended and bool(parent.wrapper.force_debug_cursor)


def _set_force_debug_cursor(wrapper: Wrapper, value: bool) -> None:
    vars(wrapper)["force_debug_cursor"] = value
    if value:
        begin(wrapper)


# `BaseDatabaseWrapper.force_debug_cursor`.
force_debug_cursor = property(_get_force_debug_cursor, _set_force_debug_cursor)
