"""Saving a note, and what else the city page needs besides its query."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.contenttypes.models import ContentType

from .aio import atomic, run
from .models import Note


async def add_note(note: Note) -> None:
    """Save a note and its line in the admin's history: both or neither."""
    async with atomic():
        await note.asave()
        kind = await run(ContentType.objects.get_for_model, Note)
        await LogEntry.objects.acreate(
            user_id=note.author_id,
            content_type=kind,
            object_id=str(note.pk),
            object_repr=str(note),
            action_flag=ADDITION,
            change_message="Written on the city's page.",
        )


def local_time(timezone: str) -> datetime | None:
    """What the clocks of a city say; None if this machine does not know its time zone."""
    try:
        return datetime.now(ZoneInfo(timezone)).replace(tzinfo=None)
    except (ZoneInfoNotFoundError, ValueError):
        return None
