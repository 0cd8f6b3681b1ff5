"""The ORM on the loop: iteration that closes its cursor, and twins for the compiler and the query.

The `a`-prefixed methods of `QuerySet`, `Model`, managers and related managers are Django's own; one
rebound name per module (`sync_to_async`) sends them to the bridge instead of a thread. What Django
lacks is here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from itertools import islice
from typing import Any

from django_aio.bridge import run


async def async_generator(self: Any) -> AsyncGenerator[Any]:
    """`BaseIterable._async_generator`: the rows of a query, `chunk_size` at a time.

    Django leaves the cursor of a loop that was broken off to the garbage collector, which would
    close it by blocking; here it is closed on the loop, when the generator is.
    """
    rows = iter(self)
    try:
        while chunk := await run(_take, rows, self.chunk_size):
            for row in chunk:
                yield row
            if len(chunk) < self.chunk_size:
                break
    finally:
        await run(rows.close)


def _take(rows: Any, size: int) -> list[Any]:
    return list(islice(rows, size))


def iterate(upstream: Callable[..., Any]) -> Callable[..., AsyncGenerator[Any]]:
    """`BaseIterable._async_generator` replaced."""
    return async_generator


Twin = Callable[..., Coroutine[Any, Any, Any]]


def twin(name: str) -> Twin:
    """The asynchronous twin of the method `name`. It honours an override in a subclass."""

    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await run(getattr(self, name), *args, **kwargs)

    method.__name__ = method.__qualname__ = f"a{name}"
    method.__doc__ = f"The asynchronous twin of `{name}()`: same arguments, result and errors."
    return method


aexecute_sql = twin("execute_sql")
ahas_results = twin("has_results")
aexplain_query = twin("explain_query")
aget_count = twin("get_count")
aget_aggregation = twin("get_aggregation")
aexplain = twin("explain")
ado_query = twin("do_query")
adelete_batch = twin("delete_batch")
aupdate_batch = twin("update_batch")


async def aresults_iter(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    """The asynchronous twin of `results_iter()`: an asynchronous iterator over the rows."""
    rows = iter(await run(self.results_iter, *args, **kwargs))
    while chunk := await run(_take, rows, 100):
        for row in chunk:
            yield row
