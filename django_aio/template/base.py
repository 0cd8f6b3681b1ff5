"""Templates, variables and the parser: `arender()`, `astream()`, awaitables as variables.

A variable whose value is awaitable is waited for when the template reaches it, at the end of a
lookup and in the middle (`{{ order.customer.name }}`, where `customer()` is a coroutine function).
Filters and nodes of a project's run where the policy says. What templates consist of otherwise is
Django's, called unchanged.

(Django documentation, "The Django template language: for Python programmers".)
"""

from __future__ import annotations

import copy
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any

from django.db.models import Model
from django.db.models.query_utils import DeferredAttribute
from django.template import base
from django.template.base import FilterExpression, VariableDoesNotExist, VariableNode
from django.template.context import Context

from django_aio.bridge import in_bridge, run
from django_aio.conf import OURS, is_below
from django_aio.policy import in_thread, is_cooperative
from django_aio.template.awaiting import PLAIN, Memo, is_awaitable, new_memo, settle
from django_aio.template.calls import adapt
from django_aio.template.streams import Sink, stream

Lookup = Callable[[Any, Any], Any]

MEMO = "_aio_results"
SHOWN = "_aio_shown"
ADOPTED = "_aio_adopted"
RENDER = _render = VariableNode.render
# What the rest of a lookup begins with: no variable can be called that.
RESULT = "\0"
# What `look()` says when it has found no plain value.
MISSING, UNKNOWN = object(), object()


async def arender(self: Any, context: Context) -> str:
    """`Template.arender(context)`: render the template; what it waits for lets the loop go on.

    The same arguments, result and errors as `render()`. May be called by any coroutine.
    """
    return await run(self.render, context)


def astream(self: Any, context: Context) -> AsyncGenerator[str, None]:
    """`Template.astream(context)`: yield the page piece by piece, each before the next wait.

    Joined, the pieces are what `render()` returns; they are of any length. Errors are raised after
    what was rendered before them. Close the generator (`aclose()`) if you leave it early. May be
    consumed by any coroutine.
    """
    return stream(functools.partial(self.render, context), Sink(self))


def resolve(upstream: Lookup) -> Lookup:
    """`Variable.resolve`: what is awaitable is waited for.

    That costs one look at the type of the result. Upstream is called where there is more to do than
    to look a name up: a literal, a translation.
    """

    @functools.wraps(upstream)
    def resolve(self: Any, context: Any) -> Any:
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
        # Upstream calls what it finds, and its rules for errors hold for the wait too.
        rest = copy.copy(self)
        rest.lookups = (RESULT, *left)
        wait = functools.partial(settle, value, f"The variable {self.var!r}", _memo(context))
        return resolve(rest, _context_of(wait, context))

    return resolve


def _from(lookups: tuple[str, ...], bit: Any) -> tuple[str, ...]:
    """The part of a lookup that was not done: from `bit` on.

    By identity first: a name may stand in it twice.
    """
    for at, each in enumerate(lookups):
        if each is bit:
            return lookups[at:]
    return lookups[lookups.index(bit) :]


def _memo(context: Any) -> Memo | None:
    """The results of this render, which all of its templates share."""
    render_context = getattr(context, "render_context", None)
    if render_context is None:
        return None
    memo: Memo = render_context.dicts[0].setdefault(MEMO, new_memo())
    return memo


def _context_of(wait: Callable[[], Any], context: Any) -> Context:
    """A context with the result alone, for the rest of a lookup."""
    alone = Context({RESULT: wait})
    for name in ("template", "template_name", "render_context"):
        if hasattr(context, name):
            setattr(alone, name, getattr(context, name))
    return alone


def find_filter(upstream: Lookup) -> Lookup:
    """`Parser.find_filter`: filters may be coroutine functions, and run where the policy says."""

    @functools.wraps(upstream)
    def find_filter(self: Any, filter_name: str) -> Any:
        return adapt(upstream(self, filter_name), "filter")

    return find_filter


def extend_nodelist(upstream: Callable[..., None]) -> Callable[..., None]:
    """`Parser.extend_nodelist`: nodes of a project's run where the policy says.

    All nodes of a template pass here when it is compiled; Django's own cost nothing afterwards.
    Variables cost less.
    """

    @functools.wraps(upstream)
    def extend_nodelist(self: Any, nodelist: Any, node: Any, token: Any) -> None:
        upstream(self, nodelist, node, token)
        cls = type(node)
        if cls is VariableNode and cls.render is RENDER:
            names = names_of(node.filter_expression)
            if names is not None:
                node.__class__ = PlainVariableNode
                node.first, node.second = names
        elif not is_below(cls.__module__, OURS) and not hasattr(cls.render_annotated, ADOPTED):
            cls.render_annotated = _by_policy(cls, cls.render_annotated)

    return extend_nodelist


class PlainVariableNode(VariableNode):
    """A variable such as `{{ title }}` or `{{ book.title }}`: most of what a list of rows shows.

    If what it names is a plain value, in the context, in a dictionary there or in a loaded field of
    a model instance, it is found by looking there, and nothing is called. Everything else is
    Django's to look for.
    """

    first: str
    second: str | None

    def render(self, context: Any) -> str:
        """The value as text."""
        value = look(context, self.first, self.second)
        if value is UNKNOWN or value is MISSING:
            return _render(self, context)
        return base.render_value_in_context(value, context)


def look(context: Any, first: str, second: str | None = None) -> Any:
    """What `first`, or `first.second`, is in a context, if it is a plain value.

    MISSING if the context has no `first`. UNKNOWN if it is for Django to find out.
    """
    try:
        value = context[first]
    except KeyError:
        return MISSING
    except Exception:
        return UNKNOWN
    if second is not None:
        value = value.get(second, UNKNOWN) if type(value) is dict else _field(value, second)
    return value if type(value) in PLAIN else UNKNOWN


def _field(value: Any, name: str) -> Any:
    """What a model instance has in a field, if that is all that there is to it; else UNKNOWN."""
    own = type(value).__dict__
    fields = own.get(SHOWN)
    if fields is None:
        fields = _fields(type(value))
    field = fields.get(name)
    if field is None or type(own.get(field)) is not DeferredAttribute:
        return UNKNOWN
    return value.__dict__.get(field, UNKNOWN)


def names_of(expression: Any) -> tuple[str, str | None] | None:
    """The one or two names that an expression consists of, or None if there is more to it."""
    if type(expression) is not FilterExpression or not expression.is_var or expression.filters:
        return None
    lookups = expression.var.lookups
    if not lookups or len(lookups) > 2:
        return None
    return lookups[0], lookups[1] if len(lookups) == 2 else None


def _fields(kind: type) -> dict[str, str]:
    """By what names templates can ask for the fields that a model defines, and their attributes.

    None of another class, nor of a model that answers in a way of its own. Such an attribute is no
    data descriptor, and it is the first of its name: what an instance has comes before it.
    """
    if not issubclass(kind, Model):
        return {}
    fields: dict[str, str] = {}
    # Not by getattr(): descriptors of a project's may answer to it, or fail.
    defined: dict[str, Any] = {}
    for cls in reversed(kind.__mro__[:-1]):
        defined.update(vars(cls))
    if not defined.keys() & {"__getitem__", "__call__", "__getattribute__"}:
        fields = {name: name for name, it in vars(kind).items() if type(it) is DeferredAttribute}
        if all(defined[name] is vars(Model)[name] for name in ("pk", "_get_pk_val")):
            fields["pk"] = kind._meta.pk.attname
    setattr(kind, SHOWN, fields)
    return fields


def _by_policy(cls: type, render_annotated: Lookup) -> Lookup:
    """A node's `render_annotated()`, in a thread if the bridge renders what may not run there.

    The class's and not the node's: nodes are copied.
    """
    elsewhere = in_thread(render_annotated, "template tag", of=cls)

    @functools.wraps(render_annotated)
    def call(self: Any, context: Any) -> Any:
        if in_bridge() and not is_cooperative(type(self)):
            return elsewhere(self, context)
        return render_annotated(self, context)

    setattr(call, ADOPTED, True)
    return call
