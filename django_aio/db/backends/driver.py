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
    """The methods of a driver that a chain calls. Only `lease()` and `tidy()` may wait.

    Any thread, and a destructor, may call the methods that end something.
    """

    def adopt(self, wrapper: Managed) -> None:
        """Prepare a logical connection that becomes part of a chain."""

    def is_idle(self, wrapper: Managed) -> bool:
        """Whether the physical connection is provably outside any transaction."""

    def is_lost(self, wrapper: Managed) -> bool:
        """Whether the physical connection is known to be closed or broken."""

    def tidy(self, wrapper: Managed) -> None:
        """Finish ends that nobody could wait for. Called in a statement's turn; may wait."""

    def is_intact(self, wrapper: Managed) -> bool:
        """Whether a transaction can go on after a statement in it was cancelled."""

    def may_stay_open(self, wrapper: Managed) -> bool:
        """Whether the next chain may have the physical connection, at the end of this one."""

    def drop(self, wrapper: Managed) -> None:
        """Release the physical connection: return it to its pool, or close it."""

    def sever(self, wrapper: Managed) -> None:
        """Close the physical connection whatever it is doing, and wake whoever waits for it."""

    def interrupt(self, wrapper: Managed) -> concurrent.futures.Future[None] | None:
        """Cancel the running statement of the physical connection, as far as the driver can.

        Returns a future that is done when the request cannot hit a later statement any more, or
        None if it never can.
        """

    def lease(self, wrapper: Managed) -> Any:
        """Return a physical connection for a lease that need not connect, or None."""

    def touch(self, wrapper: Managed) -> None:
        """Note that a project's code has the physical connection: see sessions.py."""

    def connected(self, wrapper: Managed) -> None:
        """Note that Django has connected. All code so far prepares every physical connection."""

    def has_rows(self, wrapper: Managed) -> bool:
        """Whether a server-side cursor is open, whose rows would be lost with the connection."""

    def has_free(self, wrapper: Managed) -> bool:
        """Whether a lease would begin without waiting for the end of another."""

    def may_keep(self, wrapper: Managed) -> bool:
        """Whether the task's next statement may take up a lease that ends."""

    def part(self, wrapper: Managed) -> None:
        """Release the connection that was kept for that (`State.kept`)."""


class SimpleDriver:
    """A driver that keeps no connection between leases, and cannot tell whether one is lost."""

    def is_lost(self, wrapper: Managed) -> bool:
        """False: nobody knows without asking the server."""
        return False

    def tidy(self, wrapper: Managed) -> None:
        """Do nothing: no end is put off."""

    def is_intact(self, wrapper: Managed) -> bool:
        """True: a statement that cannot be interrupted has come to its end."""
        return True

    def may_stay_open(self, wrapper: Managed) -> bool:
        """True: the driver leaves nothing on a connection."""
        return True

    def lease(self, wrapper: Managed) -> Any:
        """None: every lease connects."""
        return None

    def touch(self, wrapper: Managed) -> None:
        """Do nothing: a touched connection is closed with its chain."""

    def connected(self, wrapper: Managed) -> None:
        """Do nothing: there is nothing to note."""

    def has_rows(self, wrapper: Managed) -> bool:
        """False: there are no server-side cursors."""
        return False

    def has_free(self, wrapper: Managed) -> bool:
        """True: there is no limit."""
        return True

    def may_keep(self, wrapper: Managed) -> bool:
        """False: no lease is taken up again."""
        return False

    def part(self, wrapper: Managed) -> None:
        """Do nothing: there is nothing to release."""
