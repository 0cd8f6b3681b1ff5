"""What annotations call a logical connection: Django's wrapper with the attribute that it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    from django_aio.db.state import State

    class Wrapper(BaseDatabaseWrapper):
        """The logical connection of a plain thread (`aio` is None) or of a chain."""

        aio: State | None

    class Managed(Wrapper):
        """The logical connection of a chain."""

        aio: State

else:
    Wrapper = Managed = BaseDatabaseWrapper
