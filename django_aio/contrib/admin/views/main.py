"""`ChangeList`: its methods may be coroutine functions, in a class that `get_changelist()` returns.

Called by whoever serves the admin, in any thread. (Django documentation, "ModelAdmin methods".)
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.main import ChangeList

from django_aio.contrib.admin.options import ALL, REMEDY
from django_aio.hooks import adopt, adopting


def adopt_changelist(cls: Any) -> None:
    """Turn the coroutine functions of a change list class into hooks."""
    adopt(cls, REMEDY, unmarked=ALL)


# `ChangeList.__init_subclass__`: see adopting().
init_subclass = adopting(ChangeList, adopt_changelist)
