"""Functions of a project that templates call: tags, filters, context processors.

This includes functions of `simple_tag`, `simple_block_tag` and `inclusion_tag`, and the context
processors of both backends. A coroutine function is awaited. A synchronous function that the policy
does not trust runs in a thread if it is called inside the bridge. Django's own functions are not
wrapped, so rendering them costs no more than in stock Django.

A function is adapted when a template is compiled or an engine is made, and called by the thread
that renders.
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

# Attributes that Django reads from the function of a filter.
FLAGS = ("expects_localtime", "is_safe", "needs_autoescape", "_filter_name")


def adapt(func: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Return the function as templates can call it: anywhere, synchronous or asynchronous.

    The policy is asked at each call, because tests may change `AIO["COOPERATIVE"]`. `kind` is the
    word for the function in the log.
    """
    if is_plain(func):
        return func
    asynchronous = is_asynchronous(func)
    call_in_thread = func if asynchronous else in_thread(func, kind)
    name = f"The result of the {kind} {name_of(func)}"

    # Without `updated`: wraps() would copy the mark of a coroutine function, and this is not one.
    @functools.wraps(func, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        distrusted = not asynchronous and in_bridge() and not is_cooperative(func)
        return await_result((call_in_thread if distrusted else func)(*args, **kwargs), name)

    for flag in FLAGS:
        if hasattr(func, flag):
            setattr(call, flag, getattr(func, flag))
    return call


def is_plain(func: object) -> bool:
    """Whether this is a synchronous function of Django that wraps no code of a project."""
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
    """`TagHelperNode.__init__`: adapt the function of the tag."""

    @functools.wraps(upstream)
    def __init__(self: TagHelperNode, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        upstream(self, adapt(func, "template tag"), *args, **kwargs)

    return __init__


def processors(upstream: cached_property[Any]) -> cached_property[Any]:
    """`template_context_processors` of an engine: adapt its functions."""
    find = upstream.func

    def template_context_processors(self: Engine | Jinja2) -> Any:
        found = find(self)
        return type(found)(adapt(processor, "context processor") for processor in found)

    adapted = cached_property(template_context_processors)
    adapted.__set_name__(None, "template_context_processors")  # type: ignore[arg-type]
    return adapted
