"""Templates, variables and the parser: `arender()`, `astream()`, awaitables as variables.

When the template reaches a variable whose value is awaitable, the render waits for it, at the end
of a lookup as in the middle (`{{ order.customer.name }}`, where `customer()` is a coroutine
function). Filters and nodes of a project run where the policy says. Everything else in a template
is Django's own code, called unchanged.

(Django documentation, "The Django template language: for Python programmers".)
"""

from __future__ import annotations

import copy
import functools
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.template.base import (
    Node,
    NodeList,
    Parser,
    Template,
    Token,
    Variable,
    VariableDoesNotExist,
)
from django.template.context import Context

from django_aio.bridge import in_bridge, run
from django_aio.conf import OURS, is_below
from django_aio.policy import in_thread, is_cooperative
from django_aio.template.awaiting import PLAIN, Memo, await_variable, is_awaitable, new_memo
from django_aio.template.calls import adapt
from django_aio.template.streams import Sink, stream

Lookup = Callable[[Any, Any], Any]
# Django looks a variable up in a context, or in a plain dictionary.
Values = Context | Mapping[str, Any]

if TYPE_CHECKING:

    class _Variable(Variable):
        def _resolve_lookup(self, context: Values) -> Any: ...


MEMO = "_aio_results"
ADOPTED = "_aio_adopted"
# The first name in the rest of a lookup. No variable can have this name.
RESULT = "\0"


async def arender(self: Template, context: Context) -> str:
    """Render the template: `Template.arender(context)`. The event loop goes on while it waits.

    The arguments, the result and the errors are those of `render()`. May be called by any
    coroutine.
    """
    return await run(self.render, context)


def astream(self: Template, context: Context) -> AsyncGenerator[str, None]:
    """Yield the page piece by piece, each before the next wait: `Template.astream(context)`.

    The pieces, joined, are what `render()` returns; they may have any length. If the render fails,
    the text so far is yielded and then the error is raised. Close the generator (`aclose()`) if you
    stop before its end. May be consumed by any coroutine.
    """
    return stream(functools.partial(self.render, context), Sink(self))


def resolve(upstream: Lookup) -> Lookup:
    """`Variable.resolve`: wait for a value that is awaitable.

    For other values that costs one look at the type. Upstream is called only where more is to do
    than to look a name up: for a literal or a translation.
    """

    @functools.wraps(upstream)
    def resolve(self: _Variable, context: Values) -> Any:
        if self.lookups is None or self.translate:
            return upstream(self, context)
        try:
            value = self._resolve_lookup(context)
        except VariableDoesNotExist as missing:
            bit, value = missing.params or (None, None)
            if not is_awaitable(type(value)):
                raise
            left = _from(self.lookups, bit)
        else:
            kind = type(value)
            if kind in PLAIN or not is_awaitable(kind):
                return value
            left = ()
        # Upstream calls what it finds. If that call waits, its rules for errors cover the wait too.
        rest = copy.copy(self)
        rest.lookups = (RESULT, *left)
        wait = functools.partial(
            await_variable, value, f"The variable {self.var!r}", _memo(context)
        )
        return resolve(rest, _context_of(wait, context))

    return resolve


def _from(lookups: tuple[str, ...], bit: object) -> tuple[str, ...]:
    """Return the part of a lookup that is still to be done: from `bit` on.

    Compares by identity first, because a lookup may contain a name twice.
    """
    for at, each in enumerate(lookups):
        if each is bit:
            return lookups[at:]
    return lookups[lookups.index(bit) :]


def _memo(context: Values) -> Memo | None:
    """Return the results of this render, which all of its templates share."""
    render_context = getattr(context, "render_context", None)
    if render_context is None:
        return None
    memo: Memo = render_context.dicts[0].setdefault(MEMO, new_memo())
    return memo


def _context_of(wait: Callable[[], Any], context: Values) -> Context:
    """Return a context that contains only the result, for the rest of a lookup."""
    alone = Context({RESULT: wait})
    for name in ("template", "template_name", "render_context"):
        if hasattr(context, name):
            setattr(alone, name, getattr(context, name))
    return alone


def find_filter(upstream: Lookup) -> Lookup:
    """`Parser.find_filter`: filters may be coroutine functions, and run where the policy says."""

    @functools.wraps(upstream)
    def find_filter(self: Parser, filter_name: str) -> Any:
        return adapt(upstream(self, filter_name), "filter")

    return find_filter


def extend_nodelist(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Parser.extend_nodelist`: the nodes of a project run where the policy says.

    Every node of a template passes through here when the template is compiled. Afterwards Django's
    own nodes cost nothing extra.
    """

    @functools.wraps(upstream)
    def extend_nodelist(self: Parser, nodelist: NodeList, node: Node, token: Token) -> None:
        upstream(self, nodelist, node, token)
        cls: Any = type(node)
        if not is_below(cls.__module__, OURS) and not hasattr(cls.render_annotated, ADOPTED):
            cls.render_annotated = _by_policy(cls, cls.render_annotated)

    return extend_nodelist


def _by_policy(cls: type, render_annotated: Lookup) -> Lookup:
    """Wrap `render_annotated()`: in the bridge, a node that is not trusted renders in a thread.

    Wraps the method of the class and not of the node, because nodes are copied.
    """
    render_in_thread = in_thread(render_annotated, "template tag", of=cls)

    @functools.wraps(render_annotated)
    def call(self: Node, context: Context) -> Any:
        if in_bridge() and not is_cooperative(type(self)):
            return render_in_thread(self, context)
        return render_annotated(self, context)

    setattr(call, ADOPTED, True)
    return call
