"""How names are compared: without accents, capitals and punctuation.

The same function prepares what is stored and what is asked for, so every database finds the same
cities, whatever its collation thinks of 'Zürich', 'zurich' and 'ZÜRICH'.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def normalized(text: str) -> str:
    """Return the words of `text` in small letters, without accents, one space between them."""
    letters = []
    for character in unicodedata.normalize("NFKD", text):
        if character.isalnum():
            letters.append(character)
        elif not unicodedata.combining(character):
            letters.append(" ")
    return " ".join("".join(letters).casefold().split())


def search_text(names: Iterable[str]) -> str:
    """Return one string in which ' ' + the beginning of any word of any name can be found."""
    unique = dict.fromkeys(normalized(name) for name in names)
    return " " + " ".join(name for name in unique if name)
