"""A page that is sent while it is rendered: what stands before a wait leaves before the wait.

The render runs in the bridge and writes to a sink. `stream()` drives it step by step: whenever it
is about to wait, what the sink holds is yielded first. No task, no queue: the render goes on when
the consumer asks for more, a cancellation is raised where it waits, and closing the stream unwinds
it as a cancellation does, so that its statement is cancelled and its connection returned.

Nodes write their text to the sink when they are done. Those of Django's whose text is that of their
children, unchanged and in order (`PASSING`), let their children write. All others are collected:
`{% filter %}`, `{% cache %}`, `{% spaceless %}`, tags of a project's. What a node evaluates while
its children may write (the condition of an `{% if %}`) can itself render a template: hence a sink
belongs to one context, and `block.super` is collected.

A stream belongs to one task at a time. Its context variables are its own: what the page sets while
it is rendered (a language, a time zone) is not seen by the code that consumes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from django.template import defaulttags, loader_tags
from django.template.base import Node, NodeList, Template
from django.template.context import Context
from django.utils.safestring import SafeString

from django_aio.awaiting import Step
from django_aio.bridge import run

# By name: partials are new in Django 6.0. Exactly these, for a subclass may do something else.
PASSING = frozenset(
    found
    for module, names in (
        (loader_tags, ("BlockNode", "ExtendsNode", "IncludeNode")),
        (defaulttags, ("AutoEscapeControlNode", "IfNode", "WithNode")),
        (defaulttags, ("PartialDefNode", "PartialNode")),
    )
    for name in names
    if (found := getattr(module, name, None))
)

Resume = Callable[[Any], Any]

if TYPE_CHECKING:

    class _Node(Node):
        def render_annotated(self, context: Context) -> str: ...


class Sink:
    """What has been rendered and not been sent yet.

    Touched by the task that drives the stream, and by the thread that it waits for.
    """

    def __init__(self, template: Template | None = None) -> None:
        self._template = template  # whose context it is that nodes may write for
        self._context: Context | None = None
        self._open = True
        self._texts: list[str] = []

    def takes(self, context: Context) -> bool:
        """Whether nodes rendered with this context write here."""
        if self._context is None and self._template is not None:
            # The template is bound to the context of its own render, and to no other.
            bound = getattr(context, "template", None) is self._template
            self._context = context if bound else None
        return self._open and self._context is context

    def write(self, text: str) -> None:
        """Add text that is final."""
        self._texts.append(text)

    def take(self) -> str:
        """All the text, which is gone from the sink then."""
        text = "".join(self._texts)
        self._texts.clear()
        return text

    def collect(self, render: Callable[..., str], *args: Any) -> str:
        """What `render(*args)` returns; nothing writes here meanwhile."""
        before, self._open = self._open, False
        try:
            return render(*args)
        finally:
            self._open = before


_sink: ContextVar[Sink | None] = ContextVar("django_aio_sink", default=None)


def render_nodes(upstream: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    """`NodeList.render`: in a stream the nodes write to the sink."""
    current = _sink.get

    @functools.wraps(upstream)
    def render(self: list[_Node], context: Context) -> str:
        sink = current()
        if sink is None or not sink.takes(context):
            return upstream(self, context)
        for node in self:
            kind: type = type(node)
            if kind in PASSING:
                sink.write(node.render_annotated(context))
            elif kind is defaulttags.ForNode:
                sink.write(_with_passing_loop(node).render_annotated(context))
            else:
                sink.write(sink.collect(node.render_annotated, context))
        return SafeString("")

    return render


class _Loop:
    """The nodes in a loop, as one node that lets them write. Lives as long as one render of it."""

    def __init__(self, nodes: NodeList) -> None:
        self._nodes = nodes

    def render_annotated(self, context: Context) -> str:
        return self._nodes.render(context)


def _with_passing_loop(node: _Node) -> _Node:
    """A `{% for %}` that collects nothing: it would collect what its nodes return, one by one."""
    passing: Any = copy.copy(node)
    passing.nodelist_loop = [_Loop(passing.nodelist_loop)]
    return passing  # type: ignore[no-any-return]


def collected(upstream: Callable[[Any], str]) -> Callable[[Any], str]:
    """`BlockNode.super`: a value, which a condition may ask for."""

    @functools.wraps(upstream)
    def super(self: loader_tags.BlockNode) -> str:
        sink = _sink.get()
        return upstream(self) if sink is None else sink.collect(upstream, self)

    return super


async def stream(render: Callable[[], str], sink: Sink) -> AsyncGenerator[str, None]:
    """Yield what `render()` writes to the sink, whenever it waits, and what it returns at last.

    Joined, that is what it would return without a sink. If it fails, what was rendered until then
    is yielded before the error is raised.
    """
    variables = copy_context()
    variables.run(_sink.set, sink)
    coroutine = run(render)
    resume: Resume = coroutine.send
    value: Any = None
    failure: Exception | None = None
    try:
        while True:
            try:
                waits_for = variables.run(resume, value)
            except StopIteration as end:
                sink.write(end.value)
                break
            except Exception as error:
                failure = error
                break
            if text := sink.take():
                closed = True
                with contextlib.suppress(GeneratorExit):
                    yield text
                    closed = False
                if closed:  # and no longer in the handling of an exception
                    await _cancel(coroutine, variables, waits_for)
                    return
            resume, value = await _result(coroutine, waits_for)
        if text := sink.take():
            yield text
        if failure is not None:
            raise failure
    finally:
        # The traceback of an error holds this frame, and what the render used: a cursor, say, whose
        # connection is returned when it is gone. The two would keep each other alive.
        value = failure = None


async def _result(coroutine: Coroutine[Any, Any, Any], waits_for: object) -> tuple[Resume, Any]:
    """Wait for what the coroutine waits for. How it goes on, and with what."""
    try:
        return coroutine.send, await Step(waits_for)
    except BaseException as error:  # raised in the coroutine, where it waits
        return coroutine.throw, error


async def _cancel(
    coroutine: Coroutine[Any, Any, Any], variables: Variables, waits_for: object
) -> None:
    """Unwind a render that nobody needs any more, as `Task.cancel()` would: it may await."""
    cancel = getattr(waits_for, "cancel", None)
    if cancel is not None and cancel():
        resume, value = await _result(coroutine, waits_for)
    else:
        resume, value = coroutine.throw, asyncio.CancelledError()
    try:
        while True:
            waits_for = variables.run(resume, value)
            resume, value = await _result(coroutine, waits_for)
    except (StopIteration, asyncio.CancelledError):
        pass
    finally:
        value = None  # as in stream()
