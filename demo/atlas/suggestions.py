"""Suggestions while somebody types a city's name, over a websocket.

A message of the browser is what is in the field so far; the answer is a JSON list of names, the
largest cities first. A connection to the database is held for a query, not for the websocket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .forms import SearchForm
from .models import City

if TYPE_CHECKING:
    from django_aio.websocket import WebSocket

SUGGESTIONS = 8


async def suggest(socket: WebSocket) -> None:
    """Answer every message until the browser goes away."""
    await socket.accept()
    async for text in socket:
        await socket.send_json(await names(str(text)))


async def names(text: str) -> list[str]:
    """The cities that a search for `text` would list first; none for what cannot be searched."""
    form = SearchForm({"q": text})
    if not form.is_valid() or not form.cleaned_data["q"]:
        return []
    cities = City.objects.listed().matching(form.cleaned_data["q"])[:SUGGESTIONS]
    return [city.name async for city in cities]
