"""The ORM on the loop: iteration that closes its cursor, and async forms that Django lacks.

The `a`-prefixed methods of `QuerySet`, `Model`, managers and related managers are Django's own; one
rebound name per module (`sync_to_async`) sends them to the bridge instead of a thread. Here are
those of the compiler and the query. Guarded by `tests/db/models/test_querysets.py` and
`tests/db/test_iterators.py`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE

from django_aio.bridge import in_bridge, run, wait
from django_aio.db.shield import LIMIT
from django_aio.db.state import actor

if TYPE_CHECKING:
    from django.db.models.query import ModelIterable, QuerySet
    from django.db.models.sql.compiler import SQLCompiler

    class _QuerySet(QuerySet[Any]):
        """Django's queryset, with the attributes that its stubs do not list."""

        _prefetch_related_lookups: tuple[Any, ...]
        _prefetch_done: bool

        def _clone(self) -> _QuerySet: ...


async def _stream(start: Callable[[], Iterable[Any]], size: int) -> AsyncGenerator[Any]:
    """Yield the items of `start()`, `size` for each crossing of the bridge.

    Django closes the cursor of an iteration that was broken off when its generators are garbage.
    `held` has the only reference to them, and the end of a cursor never waits.
    """
    held = [iter(await run(start))]
    try:
        while chunk := await run(_take, held, size):
            for item in chunk:
                yield item
            if len(chunk) < size:
                break
    finally:
        held.clear()


def _take(held: list[Iterator[Any]], size: int) -> list[Any]:
    return list(islice(held[0], size))


def iterate(upstream: Callable[..., Any]) -> Callable[..., AsyncGenerator[Any]]:
    """`BaseIterable._async_generator`: yield the rows of a query, `chunk_size` at a time."""

    def _async_generator(self: ModelIterable[Any]) -> AsyncGenerator[Any]:
        return _stream(self.__iter__, self.chunk_size)

    return _async_generator


def aiterator(upstream: Callable[..., Any]) -> Callable[..., AsyncGenerator[Any]]:
    """`QuerySet.aiterator()`: iterate as `iterator()` does, with a server-side cursor if possible.

    Django's method is a generator round another, so closing it leaves the cursor open for a while.
    """

    @functools.wraps(upstream)
    def aiterator(self: QuerySet[Any], chunk_size: int = 2000) -> AsyncGenerator[Any]:
        return _stream(functools.partial(self.iterator, chunk_size), chunk_size)

    return aiterator


# An attribute of a queryset: who fetches its rows, on which loop, and the waiters. Written under
# the lock.
FETCHING = "_aio_fetching"
_lock = threading.Lock()


def fetch_all(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """`QuerySet._fetch_all`: of several who evaluate one queryset, one fetches.

    The others wait for the rows and the objects that are prefetched with them. If the one fails, or
    is cancelled, the next one fetches. Threads take part if there is something to prefetch.
    """

    @functools.wraps(upstream)
    def _fetch_all(self: _QuerySet) -> None:
        whole, bridged = _is_whole(self), in_bridge()
        # A coroutine outside the bridge cannot wait: it would stop the loop.
        alone = not bridged and (whole or asyncio._get_running_loop() is not None)
        if alone or (whole and self._result_cache is not None):
            upstream(self)
            return
        try:
            mine = _begin_to_fetch(self, bridged)
        except TimeoutError:
            apart = self._clone()
            upstream(apart)
            self._result_cache = apart._result_cache  # complete; the fetcher's replaces it later
            return
        try:
            upstream(self)
        finally:
            if mine:
                _end_fetch(self)

    return _fetch_all


def _end_fetch(queryset: _QuerySet) -> None:
    with _lock:
        *_, waiters = vars(queryset).pop(FETCHING)
    for waiter in waiters:
        if waiter.set_running_or_notify_cancel():
            waiter.set_result(None)


def _begin_to_fetch(queryset: _QuerySet, bridged: bool) -> bool:
    """Wait until nobody else fetches. Returns whether the caller is to note the end of its fetch.

    False if the caller fetches already, further out, or if another loop does, which may have ended.
    Raises TimeoutError in a thread that has waited for long: the fetcher may need that thread.
    """
    me, loop = actor(), asyncio._get_running_loop()
    while True:
        with _lock:
            fetching = vars(queryset).get(FETCHING)
            if fetching is None:
                vars(queryset)[FETCHING] = me, loop, []
                return True
            who, his_loop, waiters = fetching
            if who == me or (bridged and his_loop not in (None, loop)):
                return False
            waiter: concurrent.futures.Future[None] = concurrent.futures.Future()
            waiters.append(waiter)
        if bridged:
            wait(asyncio.wrap_future(waiter))
        else:
            waiter.result(LIMIT)


def _is_whole(queryset: _QuerySet) -> bool:
    """Whether nothing is left to be prefetched, read as Django reads it.

    A package's subclass may not have set more attributes than Django reads.
    """
    return not queryset._prefetch_related_lookups or queryset._prefetch_done


AsyncForm = Callable[..., Coroutine[Any, Any, Any]]


def async_form(name: str) -> AsyncForm:
    """The async form of the method `name`. It honours an override in a subclass."""

    async def method(self: object, *args: Any, **kwargs: Any) -> Any:
        return await run(getattr(self, name), *args, **kwargs)

    method.__name__ = method.__qualname__ = f"a{name}"
    method.__doc__ = f"The async form of `{name}()`: same arguments, result and errors."
    return method


aexecute_sql = async_form("execute_sql")
ahas_results = async_form("has_results")
aexplain_query = async_form("explain_query")
aget_count = async_form("get_count")
aget_aggregation = async_form("get_aggregation")
aexplain = async_form("explain")
ado_query = async_form("do_query")
adelete_batch = async_form("delete_batch")
aupdate_batch = async_form("update_batch")


def aresults_iter(self: SQLCompiler, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
    """The async form of `results_iter()`: an asynchronous generator of the rows."""
    start = functools.partial(self.results_iter, *args, **kwargs)
    return _stream(start, GET_ITERATOR_CHUNK_SIZE)
