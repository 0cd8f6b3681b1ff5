"""Forms and formsets: async forms of what validates and renders them.

The same form class serves both colours. `await form.ais_valid()` runs Django's own `is_valid()`
inside the bridge: queries, validators and hooks wait on the loop. In synchronous code, WSGI
included, `form.is_valid()` waits for coroutine functions too.

A form is validated by one task at a time. (Django documentation, "The Forms API", "Form and field
validation", "Formsets" and "Outputting forms as HTML".)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from django.forms.fields import Field
from django.forms.forms import BaseForm
from django.forms.formsets import BaseFormSet

from django_aio.awaiting import await_value
from django_aio.bridge import BridgeError, run
from django_aio.db.models import twin
from django_aio.forms.subclasses import REMEDY, entry
from django_aio.hooks import refusal

if TYPE_CHECKING:
    from django.forms.utils import ErrorDict

    class _Form(BaseForm):
        _errors: ErrorDict | None

    class _FormSet(BaseFormSet[Any]):
        _errors: list[Any] | None
        _non_form_errors: Any


# Of forms, formsets, bound fields and lists of errors.
arender = twin("render")
ais_valid = twin("is_valid")
afull_clean = twin("full_clean")
ahas_changed = twin("has_changed")


async def aerrors(self: BaseForm | BaseFormSet[Any]) -> Any:
    """The awaitable twin of the property `errors`: the form is validated if it has not been yet.

    Returns what the property does: the `ErrorDict` of a form, the list of those of a formset.
    """
    return await run(getattr, self, "errors")


def full_clean(upstream: Callable[..., None]) -> Callable[..., None]:
    """`full_clean()` of a form or formset: where the policy says, and never taken for complete.

    Django takes a form that has been cleaned half way for valid if it has met no error so far.
    Cancellation, and a hook that cannot be awaited, must not pass for that: nothing stays.
    """
    clean = entry(upstream)

    @functools.wraps(upstream)
    def full_clean(self: _Form | _FormSet) -> None:
        try:
            clean(self)
            _refuse_unawaited(self)
        except (asyncio.CancelledError, BridgeError, GeneratorExit):
            self._errors = None
            if hasattr(self, "_non_form_errors"):
                self._non_form_errors = None
            raise

    return full_clean


def _refuse_unawaited(form: BaseForm | BaseFormSet[Any]) -> None:
    """A coroutine among the cleaned data is a check that was not made. Raises BridgeError."""
    data = vars(form).get("cleaned_data")
    found = {"clean()": data} if not isinstance(data, dict) else data
    for name, value in found.items():
        if type(value) is CoroutineType:
            value.close()
            method = name if name == "clean()" else f"clean_{name}()"
            raise BridgeError(
                f"{type(form).__qualname__}.{method} returned a coroutine and is not a coroutine "
                "function, so nobody awaited it. If it has a decorator, apply "
                "asgiref.sync.markcoroutinefunction to what that returns; else make it an 'async "
                "def'."
            )


def get_initial_for_field(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseForm.get_initial_for_field()`: `initial` may be a coroutine function."""

    @functools.wraps(upstream)
    def get_initial_for_field(self: BaseForm, field: Field, field_name: str) -> Any:
        value = upstream(self, field, field_name)
        if asyncio.iscoroutine(value):
            name = f"initial of {type(self).__qualname__}.{field_name}"
            return await_value(value, refusal(name, REMEDY))
        return value

    return get_initial_for_field
