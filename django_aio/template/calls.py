"""Functions of a project's that templates call: tags, filters, context processors.

Those of `simple_tag`, `simple_block_tag` and `inclusion_tag` too, and of the engines of both
backends. A coroutine function is awaited. A synchronous one that the policy does not trust on the
loop runs in a thread, if it is called inside the bridge. Django's own functions are left as they
are, so that rendering costs what it did.

Adapted when a template is compiled or an engine made; called by the thread that renders.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.template.engine import Engine
from django.template.library import TagHelperNode
from django.utils.functional import cached_property

from django_aio.bridge import in_bridge
from django_aio.conf import OURS, is_below
from django_aio.policy import in_thread, is_cooperative
from django_aio.policy.parts import module_of, name_of
from django_aio.template.awaiting import await_result

if TYPE_CHECKING:
    from django.template.backends.jinja2 import Jinja2

# What Django looks for on the function of a filter.
FLAGS = ("expects_localtime", "is_safe", "needs_autoescape", "_filter_name")


def adapt(func: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """The function as templates may call it: anywhere, whatever its colour.

    The policy is asked at each call, as the list may change in tests. `kind` is what the log calls
    the function.
    """
    if is_plain(func):
        return func
    asynchronous = is_asynchronous(func)
    call_in_thread = func if asynchronous else in_thread(func, kind)
    name = f"The result of the {kind} {name_of(func)}"

    # Not all that wraps() copies: this is not a coroutine function.
    @functools.wraps(func, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        hops = not asynchronous and in_bridge() and not is_cooperative(func)
        return await_result((call_in_thread if hops else func)(*args, **kwargs), name)

    for flag in FLAGS:
        if hasattr(func, flag):
            setattr(call, flag, getattr(func, flag))
    return call


def is_plain(func: object) -> bool:
    """Whether this is a synchronous function of Django's, and nothing of a project's is in it."""
    return (
        is_below(module_of(func), OURS)
        and not hasattr(func, "__wrapped__")
        and not is_asynchronous(func)
    )


def is_asynchronous(func: object) -> bool:
    """Whether this is a coroutine function, or an object whose `__call__()` is one."""
    method = getattr(type(func), "__call__", None)  # noqa: B004
    return iscoroutinefunction(func) or iscoroutinefunction(method)


def init_helper(upstream: Callable[..., None]) -> Callable[..., None]:
    """`TagHelperNode.__init__`: the function of the tag, adapted."""

    @functools.wraps(upstream)
    def __init__(self: TagHelperNode, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        upstream(self, adapt(func, "template tag"), *args, **kwargs)

    return __init__


def processors(upstream: cached_property[Any]) -> cached_property[Any]:
    """`template_context_processors` of an engine: its functions, adapted."""
    find = upstream.func

    def template_context_processors(self: Engine | Jinja2) -> Any:
        found = find(self)
        return type(found)(adapt(processor, "context processor") for processor in found)

    adapted = cached_property(template_context_processors)
    adapted.__set_name__(None, "template_context_processors")  # type: ignore[arg-type]
    return adapted
