"""Streaming responses: whose iterator runs on the loop, and how it is closed.

A synchronous iterator is advanced in the bridge if all code in it may run there, else in a thread
(`core.handlers.sending` does either, a little at a time). That depends on whose code it is. What
counts is:

- for a generator, the module that defines it, a mark on the function or class in which it is
  defined, and the iterators that it holds, since it advances them;
- for an object, its class and the iterators that it holds;
- for `map()`, `filter()`, `zip()`, `enumerate()` and `itertools.islice()`, their arguments;
- for the iterator of a list or another container, nothing: it runs no one's code.

Every other iterator that is written in C runs in a thread, above all `iter(read, b"")` and files:
it may read from anywhere.

(Django documentation, "StreamingHttpResponse objects".)
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from django.core.files.base import File
from django.http import StreamingHttpResponse

from django_aio.conf import on_list
from django_aio.policy import is_cooperative
from django_aio.policy.parts import MARK
from django_aio.protocols.messages import Send

if TYPE_CHECKING:

    class StreamingResponse(StreamingHttpResponse):
        """Django's class, with what its stub does not have; the last two are FileResponse's."""

        _iterator: Any
        _resource_closers: list[Callable[[], object]]
        file_to_stream: Any
        block_size: int

else:
    StreamingResponse = StreamingHttpResponse

# Django's `ASGIHandler.send_response` of one handler.
Sender = Callable[[StreamingHttpResponse, Send], Awaitable[None]]

_CONTAINERS: tuple[Any, ...] = ((), [], "", b"", set(), {}, {}.values(), {}.items(), range(0))
# Advancing one of these runs no one's code.
PLAIN = frozenset({type(iter(container)) for container in _CONTAINERS} | {type(iter("é"))})
# Advancing one of these runs its arguments' code.
WRAPPERS = (map, filter, zip, enumerate, itertools.islice)


def set_streaming_content(upstream: Callable[..., None]) -> Callable[..., None]:
    """`StreamingHttpResponse._set_streaming_content`: remember all content, to close all of it.

    A middleware may wrap the content of a response and set the wrapper.
    """

    @functools.wraps(upstream)
    def _set_streaming_content(self: StreamingResponse, value: object) -> None:
        upstream(self, value)
        sources = self.__dict__.setdefault("_aio_sources", [])
        sources += [value] if value is self._iterator else [value, self._iterator]

    return _set_streaming_content


async def send_body(
    sender: Sender, response: StreamingResponse, send: Send, chunks: AsyncIterator[Any]
) -> None:
    """Have Django send a response, with `chunks` in place of its own content."""
    response._iterator, response.is_async = chunks, True
    await sender(response, send)


async def aclose(response: StreamingHttpResponse) -> None:
    """Close the asynchronous generators of a response, the outermost first, in this task.

    Left to the garbage collector, their `finally` blocks would run some time later, in a task of
    their own. Raises what they raise, after all have been closed.
    """
    async with contextlib.AsyncExitStack() as stack:
        for source in _sources(response):
            if hasattr(source, "aclose"):
                stack.push_async_callback(source.aclose)


def close(response: StreamingHttpResponse) -> None:
    """Close the synchronous iterators and files of a response, where they ran.

    `response.close()` would close them on the loop; now it calls only the other closers. Errors are
    ignored, as in `response.close()`. Calling this twice does nothing.
    """
    sources = _sources(response)
    for closer in list(response._resource_closers):  # type: ignore[attr-defined]
        owner = getattr(closer, "__self__", None)
        if isinstance(owner, (io.IOBase, File)) or any(owner is source for source in sources):
            response._resource_closers.remove(closer)  # type: ignore[attr-defined]
            with contextlib.suppress(Exception):
                closer()
    for source in reversed(sources):
        if isinstance(source, GeneratorType):  # also one of an __iter__(), unknown to Django
            with contextlib.suppress(Exception):
                source.close()


def _sources(response: StreamingHttpResponse) -> list[Any]:
    """The values that the content was set to, the outermost last, after a response's file."""
    file = getattr(response, "file_to_stream", None)
    sources: list[Any] = vars(response).get("_aio_sources", [])
    return sources if file is None else [file, *sources]


def runs_on_loop(iterator: Iterator[Any]) -> bool:
    """Whether the policy trusts all code that advances `iterator`, as far as can be seen."""
    pending: list[Any] = [iterator]
    seen: set[int] = set()
    while pending:
        found = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if type(found) in PLAIN:
            continue
        if isinstance(found, WRAPPERS):
            pending += _given(found)
        elif not _is_trusted(found):
            return False
        else:
            pending += _held(found)
    return True


def _is_trusted(thing: object) -> bool:
    return (
        _is_marked_or_listed(thing) if isinstance(thing, GeneratorType) else is_cooperative(thing)
    )


def _is_marked_or_listed(generator: GeneratorType[Any, Any, Any]) -> bool:
    """Whether the innermost marked function or class around a generator, or its module, is trusted.

    A function inside another cannot be found by its name, so the mark of the outer one counts.
    """
    frame = generator.gi_frame
    if frame is None:
        return True  # the generator has ended: none of its code will run
    module = str(frame.f_globals.get("__name__"))
    trusted: bool | None = None
    found: Any = sys.modules.get(module)
    for name in generator.__qualname__.split("."):
        found = getattr(found, name, None)
        mark = getattr(found, "__dict__", {}).get(MARK)
        trusted = trusted if mark is None else mark
    return on_list(module) if trusted is None else trusted


def _given(wrapper: object) -> list[Any]:
    """The functions that one of `WRAPPERS` calls, and the iterators that it advances."""
    found: list[Any] = []
    for referent in gc.get_referents(wrapper):
        found += referent if isinstance(referent, tuple) else [referent]
    return [
        thing
        for thing in found
        if thing is not type(wrapper) and (callable(thing) or hasattr(type(thing), "__next__"))
    ]


def _held(thing: object) -> list[Any]:
    """The iterators among the local variables of a generator, or the attributes of an object."""
    if isinstance(thing, GeneratorType):
        frame = thing.gi_frame
        names = {} if frame is None else frame.f_locals
    else:
        names = getattr(thing, "__dict__", {})
    return [value for value in names.values() if hasattr(type(value), "__next__")]
