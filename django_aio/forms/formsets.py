"""`aall_valid()`: several formsets are validated, on the loop.

A formset and all its forms are validated in one crossing of the bridge, or in one call in a thread
if the policy does not trust the class of either. (Django documentation, "Formsets".)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.forms.formsets import all_valid

from django_aio.bridge import run


async def aall_valid(formsets: Sequence[Any]) -> bool:
    """The async form of `all_valid()`: validates every formset; True if all are valid."""
    return bool(await run(all_valid, formsets))
