"""How a connection object opens and closes its physical connection in a chain.

Between two chains the object is restored to what it was, so that whatever code has set on it (a
tenant, a flag) ends with the chain (R10). Guarded by `tests/db/test_sessions.py`.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, cast

from django.utils.functional import cached_property

from django_aio.bridge import in_bridge
from django_aio.db import sessions
from django_aio.db.callers import by_project
from django_aio.db.leases import RAW_CURSOR, keep_state
from django_aio.db.state import connecting

if TYPE_CHECKING:
    from django_aio.db.types import Managed, Wrapper


def connect(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`BaseDatabaseWrapper.connect`: receivers of `connection_created` prepare every connection.

    What they set in the session is not the chain's, so the chain need not keep the connection; what
    they set on the connection object stays there.
    """

    @functools.wraps(upstream)
    def connect(self: Wrapper) -> None:
        if self.aio is None:
            upstream(self)
            return
        was_open = self.connection is not None
        with sessions.opening(self):
            if was_open or self.connection is None:
                _connect(self, upstream)

    return connect


def _connect(wrapper: Managed, upstream: Callable[[Any], None]) -> None:
    state, before = wrapper.aio, dict(vars(wrapper))
    token = connecting.set(wrapper)
    try:
        upstream(wrapper)
    finally:
        connecting.reset(token)
        if wrapper.connection is not None:
            state.driver.connected(wrapper)
        # Also after a connect that failed: a thread may still be at it.
        before["connection"] = wrapper.connection  # the chain's alone, so not pristine
        now = vars(wrapper).items()
        state.pristine.update({n: v for n, v in now if before.get(n, _UNSET) is not v})


_UNSET = object()


def remember(wrapper: Managed) -> None:
    """Note the attributes of a connection object that no chain has used yet."""
    wrapper.aio.pristine = dict(vars(wrapper))


def restore(wrapper: Managed) -> None:
    """Make a connection object what it was before any chain used it.

    Keeps its physical connection, and what Django has worked out about the server.
    """
    attributes = vars(wrapper)
    state, derived = wrapper.aio, _derived(cast(Hashable, type(wrapper)))
    kept = {name: value for name, value in attributes.items() if name in derived}
    kept["connection"] = wrapper.connection
    attributes.clear()
    attributes.update(state.pristine)
    attributes.update(kept)
    for name in ("savepoint_ids", "atomic_blocks", "run_on_commit", "execute_wrappers"):
        attributes[name] = []
    attributes["queries_log"] = deque(maxlen=wrapper.queries_limit)
    attributes["aio"] = state


@functools.cache
def _derived(wrapper_class: Hashable) -> frozenset[str]:
    """The names of the cached properties of a class of connections."""
    classes = cast(type, wrapper_class).__mro__
    members = itertools.chain.from_iterable(vars(each).items() for each in classes)
    return frozenset(name for name, value in members if isinstance(value, cached_property))


def temporary_connection(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`BaseDatabaseWrapper.temporary_connection`: a project may leave state on its cursor."""

    @functools.wraps(upstream)
    def temporary_connection(self: Wrapper) -> Any:
        if self.aio is not None and by_project():
            keep_state(self)
        return upstream(self)

    return temporary_connection


def close(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`BaseDatabaseWrapper.close`: end the session too, whose state is gone."""

    @functools.wraps(upstream)
    def close(self: Wrapper) -> None:
        if self.aio is not None and self.aio.touched and self.connection is not None:
            self.aio.driver.touch(self)
        upstream(self)
        vars(self).pop(RAW_CURSOR, None)
        if self.aio is not None and self.connection is None and not self.aio.stateful:
            # A third party's engine keeps state on the object, which outlives the close.
            sessions.release(self)
            self.aio.touched = False

    return close


def _is_held(wrapper: Managed) -> bool:
    """Whether a transaction, hold_connection() or a server-side cursor needs the connection."""
    lease, driver = wrapper.aio.lease, wrapper.aio.driver
    holds = lease is not None and lease.holds
    return bool(wrapper.in_atomic_block or holds or driver.has_rows(wrapper))


def close_if_unusable_or_obsolete(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`BaseDatabaseWrapper.close_if_unusable_or_obsolete`: a coroutine leaves that to its chain.

    Django calls the method when a response is closed, which a coroutine may do itself, and the
    method may have to ask the server. A connection that the chain holds is not obsolete, whoever
    asks.
    """

    @functools.wraps(upstream)
    def close_if_unusable_or_obsolete(self: Wrapper) -> None:
        in_coroutine = asyncio._get_running_loop() is not None and not in_bridge()
        if self.aio is None or not (in_coroutine or _is_held(self)):
            upstream(self)

    return close_if_unusable_or_obsolete
