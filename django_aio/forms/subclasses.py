"""Subclasses of Django's form classes: `async def` methods, and where the other methods run.

Every class that derives from a form, a formset, a field or a widget is examined once: when it is
created, or when the series is applied if that happens later (the admin imports `forms.py` before).
Its coroutine functions become hooks (`django_aio.hooks`).

The synchronous code of a form is not Django's, so the policy decides where it runs. Inside the
bridge, the methods through which Django enters a form (`ENTRIES`) run on the loop if the policy
trusts the form's class, else in a thread: the whole of `full_clean()` in one call, not one call for
each field. Hooks that such a thread reaches are awaited on the loop. Outside the bridge nothing
changes.

Classes may be created in any thread. A form belongs to one task or thread at a time.
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
# The methods by which Django or a view enters a form or formset, and so the code of a project.
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
    """Make hooks of the coroutine functions of `cls`, and entries of its methods in `entries`.

    The admin creates classes for every request, so a class with neither must cost little.
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
    """Whether a method belongs to a project or a third party, and is not an entry yet."""
    if getattr(method, ENTRY, None) == id(method):
        return False
    return not is_below(method.__globals__.get("__name__", ""), OURS)


def adopt_named(cls: type, names: Collection[str], remedy: str) -> None:
    """Make hooks of the coroutine functions of `cls` that have one of the names."""
    for definer in _own_part(cls):
        for name in names:
            method = vars(definer).get(name)
            if not isinstance(method, FunctionType) or is_hook(method):
                continue
            if iscoroutinefunction(method):
                setattr(definer, name, hook(method, remedy))


def _own_part(cls: type) -> list[type]:
    """Return the class (Django itself may have created it) and its bases that are not Django's."""
    return [cls, *(at for at in cls.__mro__[1:] if at.__module__.partition(".")[0] not in UPSTREAM)]


def entry(upstream: Method) -> Method:
    """Wrap a method of a form so that the whole call runs where the policy says."""

    @functools.wraps(upstream)
    def call(self: BaseForm | BaseFormSet[Any], *args: Any, **kwargs: Any) -> Any:
        if not in_bridge() or (obstacle := _distrusted(self)) is None:
            return upstream(self, *args, **kwargs)
        whole = functools.partial(upstream, self)
        return in_thread(whole, "form", of=obstacle)(*args, **kwargs)

    # An id and not True: functools.wraps() copies the attribute to a decorator's wrapper.
    setattr(call, ENTRY, id(call))
    return call


def _distrusted(form: object) -> type | None:
    """Return the class of a form, or of the forms of a formset, if the policy does not trust it."""
    cls = type(form)
    if not is_cooperative(cls):
        return cls
    inner = getattr(cls, "form", None)
    if isinstance(inner, type) and not is_cooperative(inner):
        return inner
    return None


def normalize_choices(value: Any, **options: Any) -> Any:
    """`normalize_choices()` for a field: make a hook of a coroutine function."""
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
