"""Model forms and their formsets: async forms of the methods that save.

`await form.asave()` runs Django's own `save()` inside the bridge, as one call. Like `save()`, it
does not open a transaction. The storage writes an uploaded file, and blocks meanwhile.
(Django documentation, "Creating forms from models".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import Model

from django_aio.db.models import AsyncForm, async_form


def _saving(name: str) -> AsyncForm:
    """Make the async form of a method that saves. Templates call neither of the two."""
    method = async_form(name)
    method.alters_data = True  # type: ignore[attr-defined]
    return method


asave = _saving("save")
asave_m2m = _saving("save_m2m")
asave_new = _saving("save_new")
asave_existing = _saving("save_existing")
adelete_existing = _saving("delete_existing")


def model_to_dict(upstream: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`model_to_dict()` for the initial data of a form, which a coroutine may create.

    The initial value of a many-to-many field takes a query. In a coroutine, which cannot wait for
    it here, the value is a callable instead, which Django calls when it needs the value.
    """

    @functools.wraps(upstream)
    def model_to_dict(
        instance: Model,
        fields: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
    ) -> dict[str, Any]:
        try:
            return upstream(instance, fields, exclude)
        except SynchronousOnlyOperation:
            excluded = exclude or ()
            related = [field for field in instance._meta.many_to_many if field.editable]
            data = upstream(instance, fields, [*excluded, *(field.name for field in related)])
            for field in related:
                if field.name not in excluded and (fields is None or field.name in fields):
                    data[field.name] = functools.partial(field.value_from_object, instance)
            return data

    return model_to_dict
