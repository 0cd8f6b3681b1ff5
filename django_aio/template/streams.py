"""A page that is sent while it is rendered: the text before a wait is sent before the wait.

The render runs in the bridge and writes to a sink. `stream()` drives the render step by step:
whenever the render is about to wait, the text in the sink is yielded first. There is no task and no
queue: the render goes on when the consumer asks for more, and a cancellation is raised where the
render waits. Closing the stream unwinds the render as a cancellation does, so that its statement is
cancelled and its connection released.

A node writes its text to the sink when it is done. Nodes of Django whose text is that of their
children, unchanged and in order (`PASSING`), let the children write. The text of all other nodes is
collected: `{% filter %}`, `{% cache %}`, `{% spaceless %}`, tags of a project. An expression that a
node evaluates while its children may write (the condition of an `{% if %}`) can itself render a
template. A sink therefore belongs to one context, and the text of `block.super` is collected.

A stream belongs to one task at a time. It has its own context variables: a language or time zone
that the page sets while it is rendered is not seen by the code that consumes the stream.
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

# By name, as partials are new in Django 6.0. Exactly these classes: a subclass may change the text.
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
    """The text that has been rendered and not sent yet.

    Used by the task that drives the stream, and by the thread that this task waits for.
    """

    def __init__(self, template: Template | None = None) -> None:
        self._template = template  # nodes write only if they render with its context
        self._context: Context | None = None
        self._open = True
        self._texts: list[str] = []

    def takes(self, context: Context) -> bool:
        """Whether nodes rendered with this context write here."""
        if self._context is None and self._template is not None:
            # Only the context of the template's own render is bound to the template.
            bound = getattr(context, "template", None) is self._template
            self._context = context if bound else None
        return self._open and self._context is context

    def write(self, text: str) -> None:
        """Add text that is final."""
        self._texts.append(text)

    def take(self) -> str:
        """Remove all text from the sink and return it."""
        text = "".join(self._texts)
        self._texts.clear()
        return text

    def collect(self, render: Callable[..., str], *args: Any) -> str:
        """Return what `render(*args)` returns. Nothing is written to the sink meanwhile."""
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
    """The nodes of a loop, as one node that lets them write. Lives for one render of the loop."""

    def __init__(self, nodes: NodeList) -> None:
        self._nodes = nodes

    def render_annotated(self, context: Context) -> str:
        return self._nodes.render(context)


def _with_passing_loop(node: _Node) -> _Node:
    """Return a copy of a `{% for %}` whose nodes write. The original would collect their text."""
    passing: Any = copy.copy(node)
    passing.nodelist_loop = [_Loop(passing.nodelist_loop)]
    return passing  # type: ignore[no-any-return]


def collected(upstream: Callable[[Any], str]) -> Callable[[Any], str]:
    """`BlockNode.super`: its text is a value, which a condition may use, so it is collected."""

    @functools.wraps(upstream)
    def super(self: loader_tags.BlockNode) -> str:
        sink = _sink.get()
        return upstream(self) if sink is None else sink.collect(upstream, self)

    return super


async def stream(render: Callable[[], str], sink: Sink) -> AsyncGenerator[str, None]:
    """Yield the text that `render()` writes to the sink, before each wait and at the end.

    The pieces, joined, are what `render()` would return without a sink. If it fails, the text that
    was rendered before is yielded and then the error is raised.
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
                if closed:  # out here, no exception is being handled any more
                    await _cancel(coroutine, variables, waits_for)
                    return
            resume, value = await _result(coroutine, waits_for)
        if text := sink.take():
            yield text
        if failure is not None:
            raise failure
    finally:
        # The traceback of an error holds this frame, and objects of the render: say, a cursor whose
        # connection is released when it is freed. Error and frame would keep each other alive.
        value = failure = None


async def _result(coroutine: Coroutine[Any, Any, Any], waits_for: object) -> tuple[Resume, Any]:
    """Wait for what the coroutine waits for. Return how to resume it, and the argument for that."""
    try:
        return coroutine.send, await Step(waits_for)
    except BaseException as error:  # raised in the coroutine, where it waits
        return coroutine.throw, error


async def _cancel(
    coroutine: Coroutine[Any, Any, Any], variables: Variables, waits_for: object
) -> None:
    """Unwind a render that is not needed any more, as `Task.cancel()` would: it may still await."""
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
