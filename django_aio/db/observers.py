"""R11: an observer of a connection also sees the connections of tasks that start under it.

Django keeps the observers of statements on the connection object: `execute_wrapper()`,
`force_debug_cursor`, and the log behind `connection.queries`, `CaptureQueriesContext` and
`assertNumQueries()`. A task has a connection of its own, so it takes them over from its parent: the
parent's list, log and flag apply to each of the task's statements until the parent's chain ends.
Observers that the task adds itself are its own.

Each observer sees each statement once. Called by the task or thread that the connection belongs to.
(Django documentation, "Database instrumentation".) Guarded by `tests/db/test_observers.py`.
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
    """The mark of a watched connection. Made anew for each chain that has the connection object."""

    __slots__ = ("by_debug", "ended", "follow", "wrapper")

    def __init__(self, wrapper: Wrapper) -> None:
        self.wrapper = wrapper
        self.ended = False
        self.by_debug = False  # whether all its statements are logged, because DEBUG is on
        # What a package calls with a task's connection, to observe it by other means than Django's.
        self.follow: Callable[[Any], None] | None = None

    def is_asked_for(self) -> bool:
        """Whether somebody watches the connection now."""
        return bool(self.wrapper.execute_wrappers) or bool(self.wrapper.force_debug_cursor)


_NONE: Mapping[str, Watched] = MappingProxyType({})

# The watched connections under which this context was made, by alias. Replaced, never changed.
_watched: ContextVar[Mapping[str, Watched]] = ContextVar("django_aio_watched", default=_NONE)

# Attributes of a connection: its own mark, and that of the connection it was taken under.
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
    """Mark a connection as watched: tasks that start from here on take its observers over.

    `follow(connection)` is called with the connection of each task.
    """
    watched = vars(wrapper).get(WATCHED)
    if watched is None:
        watched = vars(wrapper)[WATCHED] = Watched(wrapper)
    watched.by_debug = watched.by_debug or by_debug
    watched.follow = follow or watched.follow
    if _watched.get().get(wrapper.alias) is not watched:
        _watched.set({**_watched.get(), wrapper.alias: watched})


def take_over(wrapper: Wrapper) -> None:
    """Have the observers of the connection that a chain was started under see its own too."""
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
    """Begin a request in this context: it does not log to the code that started the server."""
    inherited = _watched.get()
    if inherited:
        _watched.set({alias: each for alias, each in inherited.items() if each.is_asked_for()})


def leave(wrapper: Wrapper) -> None:
    """Take a chain's observers off its connection, because the chain has ended."""
    attributes = vars(wrapper)
    watched = attributes.pop(WATCHED, None)
    attributes.pop(PARENT, None)
    if watched is not None:
        watched.ended = True
    if isinstance(wrapper.execute_wrappers, Inherited):
        wrapper.execute_wrappers = list(list.__iter__(wrapper.execute_wrappers))


def execute_wrapper(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseDatabaseWrapper.execute_wrapper`: observe the statements of tasks too."""

    @functools.wraps(upstream)
    def execute_wrapper(self: Wrapper, wrapper: Callable[..., Any]) -> Any:
        begin(self)
        return upstream(self, wrapper)

    return execute_wrapper


def _get_force_debug_cursor(wrapper: Wrapper) -> bool:
    """Whether statements are logged even if DEBUG is off."""
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
