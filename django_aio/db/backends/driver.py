"""The contract between a chain and the driver of an engine."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from django_aio.db.types import Managed

ROWS_GONE = (
    "The rows of this iterator are no longer there: the task, thread or block that it was started "
    "in has ended, and its connection with it. Read an iterator to its end where it was started, "
    "or take its rows with it in a list."
)


class Driver(Protocol):
    """What a chain must know of a driver. Only `lease()` and `tidy()` may wait.

    What ends something may be called by any thread, and by a destructor.
    """

    def adopt(self, wrapper: Managed) -> None:
        """A logical connection becomes part of a chain."""

    def is_idle(self, wrapper: Managed) -> bool:
        """Whether the physical connection is provably outside any transaction."""

    def is_lost(self, wrapper: Managed) -> bool:
        """Whether the physical connection is known to be closed or broken."""

    def tidy(self, wrapper: Managed) -> None:
        """Before a statement, in its turn: end what ended where nobody could wait. May wait."""

    def is_intact(self, wrapper: Managed) -> bool:
        """Whether a transaction can go on in which a statement was cancelled."""

    def may_stay_open(self, wrapper: Managed) -> bool:
        """Whether the next chain may have the physical connection, at the end of this one."""

    def drop(self, wrapper: Managed) -> None:
        """Let go of the physical connection: return it to its pool, or close it."""

    def sever(self, wrapper: Managed) -> None:
        """Close the physical connection whatever it is doing. Whoever waits for it is woken."""

    def interrupt(self, wrapper: Managed) -> concurrent.futures.Future[None] | None:
        """Cancel what the physical connection is doing, as far as the driver can.

        Returns what is done when the request cannot meet a later statement any more; None if it
        cannot anyway.
        """

    def lease(self, wrapper: Managed) -> Any:
        """A physical connection for a lease that needs no connecting, or None."""

    def touch(self, wrapper: Managed) -> None:
        """A project's code has the physical connection: see sessions.py."""

    def connected(self, wrapper: Managed) -> None:
        """Django has connected. What was done so far is done for every physical connection."""

    def has_rows(self, wrapper: Managed) -> bool:
        """Whether a server-side cursor is open, whose rows would be lost with the connection."""

    def has_free(self, wrapper: Managed) -> bool:
        """Whether a lease would begin without waiting for somebody else's end."""

    def may_keep(self, wrapper: Managed) -> bool:
        """Whether a lease that ends may be taken up again by the task's next statement."""

    def part(self, wrapper: Managed) -> None:
        """Let go of the connection that was kept so (`State.kept`)."""


class SimpleDriver:
    """A driver whose leases end when they end, and which cannot tell what was lost."""

    def is_lost(self, wrapper: Managed) -> bool:
        """Nobody knows without asking the server."""
        return False

    def tidy(self, wrapper: Managed) -> None:
        """Nothing is put off."""

    def is_intact(self, wrapper: Managed) -> bool:
        """What cannot be interrupted has come to its end."""
        return True

    def may_stay_open(self, wrapper: Managed) -> bool:
        """Nothing of the driver's is left on a connection."""
        return True

    def lease(self, wrapper: Managed) -> Any:
        """Every lease begins with connecting."""
        return None

    def touch(self, wrapper: Managed) -> None:
        """A touched connection is closed with its chain."""

    def connected(self, wrapper: Managed) -> None:
        """Nothing is noted."""

    def has_rows(self, wrapper: Managed) -> bool:
        """There is none."""
        return False

    def has_free(self, wrapper: Managed) -> bool:
        """There is no limit."""
        return True

    def may_keep(self, wrapper: Managed) -> bool:
        """Never."""
        return False

    def part(self, wrapper: Managed) -> None:
        """There is nothing to let go of."""
