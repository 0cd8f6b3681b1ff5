"""Formsets: awaitable twins of what validates, and coroutine functions in the place of methods.

A formset and all its forms are validated in one crossing of the bridge, or in one hand-over to a
thread if the policy does not trust the class of either. (Django documentation, "Formsets".)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from django.forms.formsets import BaseFormSet, all_valid

from django_aio.bridge import run
from django_aio.forms.subclasses import ENTRIES, adopt_methods
from django_aio.hooks import adopting

adopt_formset = functools.partial(adopt_methods, entries=ENTRIES)
formset_init_subclass = adopting(BaseFormSet, adopt_formset)


async def aall_valid(formsets: Sequence[Any]) -> bool:
    """The awaitable twin of `all_valid()`: validates every formset; True if all are valid."""
    return bool(await run(all_valid, formsets))
