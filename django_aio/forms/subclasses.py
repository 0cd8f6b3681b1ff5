"""Subclasses of Django's form classes: `async def` methods, and who runs the rest.

Every class that derives from a form, a formset, a field or a widget is looked at once, when it is
made, or when the series is applied if that was later (the admin imports `forms.py` before). Its
coroutine functions become hooks (`django_aio.hooks`).

The synchronous code of a form is its author's. Inside the bridge, the methods through which Django
enters a form (`ENTRIES`) run on the loop if the policy trusts the form's class, else in a thread:
one hand-over for the whole of `full_clean()`, not one for each field. From there hooks are awaited
on the loop. Outside the bridge nothing changes.

Classes are made in any thread. A form belongs to one task or thread at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from types import FunctionType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.forms.boundfield import BoundField
from django.forms.fields import Field
from django.forms.forms import BaseForm
from django.forms.formsets import BaseFormSet
from django.forms.widgets import Widget
from django.utils.choices import normalize_choices as upstream_normalize_choices

from django_aio.bridge import in_bridge
from django_aio.conf import OURS, is_below
from django_aio.hooks import adopt, adopting, hook, is_hook
from django_aio.policy import in_thread, is_cooperative

REMEDY = (
    "Call 'await form.ais_valid()', 'await form.asave()' or 'await form.arender()', or run the "
    "function that gets here with 'await run(function, ...)'."
)
# Where Django or a view enters a form or a formset, and its author's code may begin.
ENTRIES = (
    "is_valid",
    "full_clean",
    "get_context",
    "render",
    "save",
    "save_new",
    "save_existing",
    "delete_existing",
)
ENTRY = "_aio_entry"
UPSTREAM = {*OURS, "builtins"}

Method = Callable[..., Any]


def adopt_methods(cls: type, prefixes: tuple[str, ...] = (), entries: Collection[str] = ()) -> None:
    """Make hooks of the coroutine functions of `cls`, and entries of its methods named so.

    The admin makes classes for every request: most are done after a glance.
    """
    asynchronous = False
    for definer in _own_part(cls):
        for name, method in list(vars(definer).items()):
            if type(method) is not FunctionType:
                continue
            if iscoroutinefunction(method):
                asynchronous = asynchronous or not is_hook(method)
            elif name in entries and _is_theirs(method):
                setattr(definer, name, entry(method))
    if asynchronous:
        adopt(cls, REMEDY, prefixes=prefixes)


def _is_theirs(method: FunctionType) -> bool:
    """Whether a method is a project's or a third party's, and no entry yet."""
    if getattr(method, ENTRY, None) == id(method):
        return False
    return not is_below(method.__globals__.get("__name__", ""), OURS)


def adopt_named(cls: type, names: Collection[str], remedy: str) -> None:
    """Make hooks of those coroutine functions of `cls` that have one of the names."""
    for definer in _own_part(cls):
        for name in names:
            method = vars(definer).get(name)
            if not isinstance(method, FunctionType) or is_hook(method):
                continue
            if iscoroutinefunction(method):
                setattr(definer, name, hook(method, remedy))


def _own_part(cls: type) -> list[type]:
    """The class, which a factory of Django's may have made, and what is not Django's above it."""
    return [cls, *(at for at in cls.__mro__[1:] if at.__module__.partition(".")[0] not in UPSTREAM)]


def entry(upstream: Method) -> Method:
    """A method of a form that runs where the policy says, as a whole."""

    @functools.wraps(upstream)
    def call(self: BaseForm | BaseFormSet[Any], *args: Any, **kwargs: Any) -> Any:
        if not in_bridge() or (obstacle := _distrusted(self)) is None:
            return upstream(self, *args, **kwargs)
        whole = functools.partial(upstream, self)
        return in_thread(whole, "form", of=obstacle)(*args, **kwargs)

    # Its own, which functools.wraps() copies to what decorates it.
    setattr(call, ENTRY, id(call))
    return call


def _distrusted(form: object) -> type | None:
    """The class of a form that the policy does not trust, or that of the forms in a formset."""
    cls = type(form)
    if not is_cooperative(cls):
        return cls
    inner = getattr(cls, "form", None)
    if isinstance(inner, type) and not is_cooperative(inner):
        return inner
    return None


def normalize_choices(value: Any, **options: Any) -> Any:
    """`normalize_choices()` for a field: a coroutine function is awaited where Django calls it."""
    if iscoroutinefunction(value):
        value = hook(value, REMEDY)
    return upstream_normalize_choices(value, **options)


# The `__init_subclass__()` of each: see `adopting()`.
adopt_form = functools.partial(adopt_methods, prefixes=("clean_",), entries=ENTRIES)
adopt_formset = functools.partial(adopt_methods, entries=ENTRIES)
form_init_subclass = adopting(BaseForm, adopt_form)
formset_init_subclass = adopting(BaseFormSet, adopt_formset)
field_init_subclass = adopting(Field, adopt_methods)
bound_field_init_subclass = adopting(BoundField, adopt_methods)
widget_init_subclass = adopting(Widget, adopt_methods)
