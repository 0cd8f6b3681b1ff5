"""Live notes: every saved note is pushed to every open feed of this process.

A note counts as saved when its transaction is: the receiver below announces it on commit,
whether the note came from the city page, from the admin or from the shell.

Each client has a bounded queue. One that reads too slowly is disconnected rather than served with
gaps: the browser comes back by itself, says which note was the last that it saw, and gets what it
missed from the database.

What it does not do: reach other processes. That takes PostgreSQL's NOTIFY, Redis or Channels.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone
from django.utils.timesince import timesince

from .models import Note

QUEUE_SIZE = 32  # notes that a client may lag behind
REPLAY_SIZE = 50  # notes that a returning client gets at most

KEEP_ALIVE = ": keep-alive\n\n"

Event = dict[str, Any]


class Subscriber:
    """The queue of one open feed. Belongs to one loop; only `announce()` comes from elsewhere."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # None is the end of the feed. It always finds a place: see _put().
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE_SIZE + 1)

    def announce(self, event: Event | None) -> None:
        """Hand an event over, from any thread and any loop."""
        with suppress(RuntimeError):  # that loop was closed together with its clients
            self._loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: Event | None) -> None:
        if self._queue.qsize() < QUEUE_SIZE:
            self._queue.put_nowait(event)
        elif not self._queue.full():
            self._queue.put_nowait(None)

    async def next(self) -> Event | None:
        return await self._queue.get()


# Open feeds, of all loops of this process.
_subscribers: set[Subscriber] = set()
_lock = threading.Lock()  # guards _subscribers; never held while anything is awaited


def publish(event: Event | None) -> None:
    """Send an event to all feeds; None ends them, as the server does when it shuts down."""
    with _lock:
        subscribers = list(_subscribers)
    for subscriber in subscribers:
        subscriber.announce(event)


async def stream(last_seen: int | None) -> AsyncIterator[str]:
    """Server-sent events, until the client goes away: what it missed, then what is new.

    The subscription comes before the replay, so that no note falls between the two; one that is in
    both is sent once.
    """
    subscriber = Subscriber()
    with _lock:
        _subscribers.add(subscriber)
    try:
        yield ": connected\n\n"
        if last_seen is not None:
            async for note in missed(last_seen):
                last_seen = note.pk
                yield encoded(described(note))
        while True:
            try:
                async with asyncio.timeout(settings.FEED_KEEP_ALIVE):
                    event = await subscriber.next()
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            if event is None:
                return
            if last_seen is None or event["id"] > last_seen:
                yield encoded(event)
    finally:
        with _lock:
            _subscribers.discard(subscriber)


async def missed(last_seen: int) -> AsyncIterator[Note]:
    """The notes since `last_seen`, the oldest first; the latest of them if they are too many."""
    notes = Note.objects.filter(pk__gt=last_seen).select_related("city__country", "author")
    for note in reversed([note async for note in notes.order_by("-pk")[:REPLAY_SIZE]]):
        yield note


def encoded(event: Event) -> str:
    """The event as it goes over the wire. JSON has no line breaks of its own to escape."""
    return f"id: {event['id']}\nevent: note\ndata: {json.dumps(event)}\n\n"


def described(note: Note) -> Event:
    """What a page needs to show a note."""
    return {
        "id": note.pk,
        "text": note.text,
        "author": note.author.get_username(),
        "city": note.city.name,
        "country": note.city.country.name,
        "url": note.city.get_absolute_url(),
        "created_at": note.created_at.isoformat(),
        "ago": timesince(note.created_at, timezone.now(), depth=1),
    }


@receiver(post_save, sender=Note)
def announce_note(instance: Note, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """Tell the feeds about a new note once its transaction has succeeded."""
    if created and not raw:
        transaction.on_commit(partial(publish, described(instance)))
