"""Jinja2: awaitables as variables, `astream()`, and environments with `enable_async`.

In an environment without `enable_async` the render waits for the value of a name, a call, an
attribute or an item if it is awaitable: `{{ count() }}` where `count` is a coroutine function.
Jinja2 looks up the names that a block uses when the block begins, so it waits for them there.

With `enable_async` Jinja2 awaits calls by itself, and starts an event loop for `render()`. Inside
the bridge `render()` uses the running loop, and waits for names and attributes as well.

Jinja2 calls filters, tests and globals where it renders: the policy is not asked.
Called by the thread that renders; any thread may make an environment.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jinja2
from django.http import HttpRequest
from django.template.backends.jinja2 import Jinja2, Template
from jinja2.runtime import Context
from jinja2.utils import internalcode

from django_aio.bridge import in_bridge
from django_aio.template.awaiting import PLAIN, Memo, await_variable, is_awaitable, new_memo
from django_aio.template.backends.django import arender
from django_aio.template.streams import Sink, stream

__all__ = ["arender", "astream", "init_engine", "render"]

# The results of the current render, shared with the renders that it starts.
_memo: ContextVar[Memo | None] = ContextVar("django_aio_results", default=None)


def init_engine(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Jinja2.__init__`: make the new environment wait for awaitables."""

    @functools.wraps(upstream)
    def __init__(self: Jinja2, *args: Any, **kwargs: Any) -> None:
        upstream(self, *args, **kwargs)
        # By its class, which overlays of the environment share.
        cls: Any = type(self.env)
        self.env.__class__ = _waiting(cls)

    return __init__


@functools.lru_cache(maxsize=64)
def _waiting(cls: type[jinja2.Environment]) -> type[jinja2.Environment]:
    """Return a subclass of an environment's class, with the name and the module of that class."""
    context_class = cls.context_class
    context = type(
        context_class.__name__,
        (context_class,),
        {
            "resolve_or_missing": _looking_up(context_class.resolve_or_missing),
            "call": _calling(context_class.call),
        },
    )
    attributes = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "getattr": _looking_into(cls.getattr),
        "getitem": _looking_into(cls.getitem),
        "context_class": context,
    }
    return type(cls.__name__, (cls,), attributes)


# Templates call these all the time: no super(), and one look at the type.


def _looking_into(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`Environment.getattr` or `getitem`: wait for attributes and items."""

    @functools.wraps(upstream)
    def look(self: jinja2.Environment, obj: object, name: object) -> Any:
        value = upstream(self, obj, name)
        return value if type(value) in PLAIN else _awaited(self, value, name)

    return look


def _looking_up(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`Context.resolve_or_missing`: wait for variables."""

    @functools.wraps(upstream)
    def resolve_or_missing(self: Context, key: str) -> Any:
        value = upstream(self, key)
        return value if type(value) in PLAIN else _awaited(self.environment, value, key)

    return resolve_or_missing


def _calling(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`Context.call`: wait for what calls return."""

    @internalcode
    @functools.wraps(upstream)
    def call(self: Context, obj: object, /, *args: Any, **kwargs: Any) -> Any:
        value = upstream(self, obj, *args, **kwargs)
        # With enable_async Jinja2 itself awaits the value.
        if type(value) in PLAIN or self.environment.is_async:
            return value
        return _awaited(self.environment, value, getattr(obj, "__qualname__", "a call"))

    return call


def _awaited(environment: jinja2.Environment, value: Any, name: object) -> Any:
    if not is_awaitable(type(value)) or (environment.is_async and not in_bridge()):
        return value
    return await_variable(value, f"The variable {name!r}", _memo.get())


def render(upstream: Callable[..., str]) -> Callable[..., str]:
    """`Template.render` of the backend: inside the bridge, render on the running loop."""

    @functools.wraps(upstream)
    def render(
        self: Template, context: dict[str, Any] | None = None, request: HttpRequest | None = None
    ) -> str:
        with _remembering():
            environment = getattr(self.template, "environment", None)
            if environment is not None and environment.is_async and in_bridge():
                self = _with(self, _OnTheLoop(self.template))
            return upstream(self, context, request)

    return render


def astream(
    self: Template, context: dict[str, Any] | None = None, request: HttpRequest | None = None
) -> AsyncGenerator[str, None]:
    """Yield the page piece by piece: `Template.astream(context, request)`.

    A piece consists of all events of Jinja2's `generate()` before the next wait.
    """
    sink = Sink()
    writing = _with(self, _Generated(self.template, sink))
    return stream(functools.partial(writing.render, context, request), sink)


@contextmanager
def _remembering() -> Iterator[None]:
    token = None if _memo.get() is not None else _memo.set(new_memo())
    try:
        yield
    finally:
        if token is not None:
            _memo.reset(token)


def _with(template: Template, stand_in: _OnTheLoop | _Generated) -> Template:
    """Return a copy of the backend's template that renders a stand-in for Jinja2's template."""
    template = copy.copy(template)
    template.template = stand_in  # type: ignore[assignment]
    return template


class _OnTheLoop:
    """A template with `enable_async`, rendered inside the bridge. Used once."""

    def __init__(self, template: jinja2.Template) -> None:
        self._template = template

    def render(self, context: dict[str, Any]) -> Any:
        return await_variable(self._template.render_async(context), "The template")


class _Generated:
    """A template that writes the text that it generates to a sink. Used once."""

    def __init__(self, template: jinja2.Template, sink: Sink) -> None:
        self._template = template
        self._sink = sink

    def render(self, context: dict[str, Any]) -> str:
        if self._template.environment.is_async:
            await_variable(self._fill(context), "The template")
        else:
            for text in self._template.generate(context):
                self._sink.write(text)
        return ""

    async def _fill(self, context: dict[str, Any]) -> None:
        async for text in self._template.generate_async(context):
            self._sink.write(text)
