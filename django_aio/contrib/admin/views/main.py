"""`ChangeList`: its methods may be coroutine functions, in a class that `get_changelist()` returns.

Called by whoever serves the admin, in any thread. (Django documentation, "ModelAdmin methods".)
"""

from __future__ import annotations

from django.contrib.admin.views.main import ChangeList

from django_aio.contrib.admin.options import adopt_class
from django_aio.hooks import adopting

# `ChangeList.__init_subclass__`: see adopting().
init_subclass = adopting(ChangeList, adopt_class)
