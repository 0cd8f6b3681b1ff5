"""`aall_valid()`: validate several formsets on the event loop.

All formsets are validated by one call inside the bridge. A formset runs in a thread, as a whole, if
the policy does not trust its class or the class of its forms. (Django documentation, "Formsets".)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.forms.formsets import all_valid

from django_aio.bridge import run


async def aall_valid(formsets: Sequence[Any]) -> bool:
    """Validate every formset, and return whether all are valid: the async form of `all_valid()`."""
    return bool(await run(all_valid, formsets))
