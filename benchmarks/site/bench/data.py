"""What the tables hold, known to whoever fills them, queries them and checks the pages.

Imports nothing of Django, so that the benchmark itself can read it.
"""

from __future__ import annotations

import random

WORLDS = 10_000
QUERIES = 20
PARALLEL = 5

# One line that must be escaped and one outside ASCII: a page that skips either work is no page.
MESSAGES = [
    "A thread in the hand is worth two in the pool.",
    "Whoever awaits everything waits for nothing.",
    "The shortest queue is the one you did not join.",
    "A transaction begun is half committed.",
    "He who measures once, rounds twice.",
    "No deadlock survives the first reboot.",
    "Trust the cache, but expire.",
    "There is no place like 127.0.0.1, and no time like UTC.",
    "Many hands make locks fight.",
    "Fortune favours the prepared statement.",
    "<script>alert('This line must arrive escaped.');</script>",
    "待てば海路の日和あり",
]
ADDED_MESSAGE = "This fortune was added while you waited."


def random_key() -> int:
    """The primary key of some row of World."""
    return random.randint(1, WORLDS)


# Who can log in: user0, user1, ... Several, so that logins do not wait for each other's row.
USERS = 100
PASSWORD = "benchmark"
