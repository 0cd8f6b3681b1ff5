"""Forms and formsets: async forms of the methods that validate and render them.

The same form class serves synchronous and asynchronous code. `await form.ais_valid()` runs Django's
own `is_valid()` inside the bridge: queries, validators and hooks wait on the loop. In synchronous
code, under WSGI too, `form.is_valid()` also waits for coroutine functions.

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
from django_aio.db.models import async_form
from django_aio.forms.subclasses import REMEDY, entry
from django_aio.hooks import refusal

if TYPE_CHECKING:
    from django.forms.utils import ErrorDict

    class _Form(BaseForm):
        _errors: ErrorDict | None

    class _FormSet(BaseFormSet[Any]):
        _errors: list[Any] | None
        _non_form_errors: Any


# `arender()` is also for bound fields and lists of errors.
arender = async_form("render")
ais_valid = async_form("is_valid")
afull_clean = async_form("full_clean")
ahas_changed = async_form("has_changed")


async def aerrors(self: BaseForm | BaseFormSet[Any]) -> Any:
    """Return what the property `errors` returns, and validate the form first if necessary.

    That is the `ErrorDict` of a form, or the list of the `ErrorDict` of each form of a formset.
    """
    return await run(getattr, self, "errors")


def full_clean(upstream: Callable[..., None]) -> Callable[..., None]:
    """`full_clean()` of a form or formset: run it where the policy says, and discard half a result.

    Django takes a half-cleaned form for valid if no error has occurred so far. A cancellation, or a
    hook that cannot be awaited, must not leave such a form: the errors so far are discarded, so
    that the form counts as not validated.
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
    """Raise BridgeError for a coroutine among the cleaned data: it is a check that has not run."""
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
