"""`ModelAdmin`, inlines, list filters, `ChangeList`: any method may be a coroutine function.

Django's code calls these methods, on the loop or in a thread, and gets the result of a coroutine
function: see `hooks.py`. The coroutine of a method `has_..._permission` is never taken for a yes,
whether Django has such a method or an action asks for it.

An action is a method, a function in `actions`, or a function that is registered with the site.
Coroutine functions are awaited; synchronous functions run where the policy says. `list_display` and
`readonly_fields` may name coroutine functions too. `choices()` of a list filter is a generator in
Django; a coroutine function in its place returns a list.

Called by the code that serves the admin, in any thread. (Django documentation, "The Django admin
site", "Admin actions", "ModelAdmin List Filters", "ModelAdmin methods".)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from types import CoroutineType, MethodType
from typing import TYPE_CHECKING, Any

import django
from asgiref.sync import iscoroutinefunction
from django.contrib.admin import utils
from django.contrib.admin.filters import ListFilter
from django.contrib.admin.options import BaseModelAdmin
from django.contrib.admin.views.main import ChangeList

from django_aio.awaiting import await_value
from django_aio.bridge import in_bridge
from django_aio.hooks import adopt, adopting, hook, is_hook, is_upstream, refusal
from django_aio.policy import in_thread, is_cooperative
from django_aio.policy.parts import name_of

if TYPE_CHECKING:
    from django.contrib.admin.options import ModelAdmin
    from django.db.models import Model

REMEDY = "In a coroutine call that code with 'await run(...)', such as 'await run(view, request)'."
# All hooks stay unmarked: Django copies the attributes of views, and calls methods synchronously.
ALL = ("",)

Actions = dict[str, Any]

adopt_class = functools.partial(adopt, remedy=REMEDY, unmarked=ALL)


def adopt_admin(cls: type) -> None:
    """Turn the coroutine functions of a `ModelAdmin` or inline class into hooks."""
    adopt_class(cls, prefixes=("has_", "view_on_site"))
    if django.VERSION < (6, 1):
        _prepare_overridden(cls)


def _prepare_overridden(cls: type) -> None:
    """Prepare the actions that an overridden `get_actions()` adds as well."""
    for definer in cls.__mro__:
        method = vars(definer).get("get_actions")
        if method is None or is_upstream(definer):
            continue
        if not hasattr(method, PREPARED):
            prepared = get_actions(method)
            setattr(prepared, PREPARED, True)
            setattr(definer, "get_actions", prepared)  # noqa: B010


PREPARED = "_aio_prepared"


def get_actions(upstream: Callable[..., Actions]) -> Callable[..., Actions]:
    """`ModelAdmin.get_actions`: make actions callable for Django, whatever kind of function.

    From Django 6.1 on the method that calls it as well, for the actions that an override adds.
    """

    @functools.wraps(upstream)
    def call(self: ModelAdmin[Model], *args: Any, **kwargs: Any) -> Actions:
        actions = upstream(self, *args, **kwargs)
        return {name: _prepared(self, name, action) for name, action in actions.items()}

    return call


def _prepared(model_admin: ModelAdmin[Model], name: str, action: Any) -> Any:
    """Adapt an action, which Django describes by a tuple or, from 6.1 on, by an object."""
    func = action[0] if isinstance(action, tuple) else action.func
    adapted = _adapted(model_admin, name, func)
    if adapted is func:
        return action
    if isinstance(action, tuple):
        return (adapted, *action[1:])
    return dataclasses.replace(action, func=adapted)


def _adapted(
    model_admin: ModelAdmin[Model], name: str, func: Callable[..., Any]
) -> Callable[..., Any]:
    if is_hook(func):
        return func
    if iscoroutinefunction(func):
        return hook(func, REMEDY, marked=False)
    if not in_bridge():
        return func
    # Django looks up methods on the class, unbound: the mark of the class is theirs.
    own = getattr(type(model_admin), name, None) is func
    trusted = is_cooperative(MethodType(func, model_admin) if own else func)
    return func if trusted else in_thread(func, "action")


def lookup_field(
    name: str | Callable[..., Any], obj: Model, model_admin: BaseModelAdmin[Model] | None = None
) -> tuple[Any, Any, Any]:
    """Stand in for `lookup_field()` where a value is shown. Return what Django's returns.

    The coroutines of columns are awaited one after another.
    """
    field, attribute, value = utils.lookup_field(name, obj, model_admin)
    if type(value) is CoroutineType:
        named = name if isinstance(name, str) else name_of(name)
        value = await_value(value, refusal(named, REMEDY))
    return field, attribute, value


# The `__init_subclass__()` of each: see adopting().
admin_init_subclass = adopting(BaseModelAdmin, adopt_admin)
filter_init_subclass = adopting(ListFilter, functools.partial(adopt_class, prefixes=("has_",)))
changelist_init_subclass = adopting(ChangeList, adopt_class)
