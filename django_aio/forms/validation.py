"""Validators that are coroutine functions, and the validation of models.

The lists `validators` of form fields and model fields may contain coroutine functions, and
callables that return an awaitable, next to plain validators; each is awaited before the next is
called. Inside the bridge a synchronous validator that the policy does not trust runs in a thread.
The lists themselves are not changed.

`Model.clean()` and the other methods of `NAMES` may be coroutine functions. (Django documentation,
"Validators" and "Validating objects".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.db.models import Model

from django_aio.awaiting import await_call, await_value
from django_aio.bridge import in_bridge
from django_aio.db.models import async_form
from django_aio.forms.subclasses import adopt_named
from django_aio.hooks import adopting, refusal
from django_aio.policy import in_thread, is_cooperative
from django_aio.policy.parts import name_of

if TYPE_CHECKING:
    from django.db import models
    from django.forms import fields as forms

REMEDY = (
    "Call 'await form.ais_valid()' or 'await instance.afull_clean()', or run the function that "
    "gets here with 'await run(function, ...)'."
)
# The methods of a model that Django calls to validate it, and to redirect to it.
NAMES = (
    "clean",
    "clean_fields",
    "validate_unique",
    "validate_constraints",
    "full_clean",
    "get_absolute_url",
)

model_init_subclass = adopting(Model, functools.partial(adopt_named, names=NAMES, remedy=REMEDY))

afull_clean = async_form("full_clean")
aclean_fields = async_form("clean_fields")
aclean = async_form("clean")
avalidate_unique = async_form("validate_unique")
avalidate_constraints = async_form("validate_constraints")


def run_validators(upstream: Callable[..., None]) -> Callable[..., None]:
    """`run_validators()` of form fields and model fields."""

    @functools.wraps(upstream)
    def run_validators(
        self: forms.Field | models.Field[Any, Any] | _Validating, value: object
    ) -> None:
        validators = self.validators
        for validator in validators:
            if type(validator) not in _djangos and not _is_djangos(validator):
                self = _Validating(self, [functools.partial(_call, each) for each in validators])
                break
        upstream(self, value)

    return run_validators


# Django's classes of validators that have been met. Grows to a dozen; any thread adds to it.
_djangos: set[type] = set()


def _is_djangos(validator: object) -> bool:
    """Whether Django defines the validator: it then neither waits nor blocks."""
    if type(validator) is FunctionType:
        # Not __module__: functools.wraps() copies that.
        return bool(validator.__globals__.get("__name__", "").startswith("django."))
    module = type(validator).__module__
    if not module.startswith("django.") or module.startswith("django.utils."):  # lazy objects
        return False
    _djangos.add(type(validator))
    return True


class _Validating:
    """A field with other validators, for one call of its `run_validators()`."""

    def __init__(self, field: object, validators: list[Callable[[Any], None]]) -> None:
        self._field = field
        self.validators = validators

    def __getattr__(self, name: str) -> Any:
        return getattr(self._field, name)


def _call(validator: Callable[[Any], Any], value: object) -> None:
    """Call a validator where the policy says, and wait for its result if that is awaitable."""
    if iscoroutinefunction(validator) or iscoroutinefunction(getattr(validator, "__call__", None)):  # noqa: B004
        await_call(functools.partial(validator, value), refusal(name_of(validator), REMEDY))
        return
    call = validator
    if in_bridge() and not is_cooperative(validator):
        call = in_thread(validator, "validator")
    await_value(call(value), refusal(name_of(validator), REMEDY))
