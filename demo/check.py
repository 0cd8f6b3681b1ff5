"""Request every page of the demo and say how it went: `scripts/demo --check`.

A real server is started on a free port and asked over HTTP, as a visitor would. It works on a
database of its own, made from nothing and removed afterwards, for two reasons: the user's notes
are not touched, and the way from an empty database to a filled one is checked as well. For SQLite
that is a file in a temporary directory, for PostgreSQL a second database on the same server, named
after the first.

Exit status 0: every answer was the expected one, and the server wrote no traceback and no warning,
and stopped when it was told to, with a feed still open.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from check_client import Client, Feed, Server, WebSocket
from django.core.exceptions import ImproperlyConfigured
from project import database
from serve import create_database

LONDON = 2643743
STOCK = os.environ.get("STOCK") == "1"

# Stock Django sends a static file from an asynchronous server with a warning; django-aio does not.
STOCK_WARNING = "StreamingHttpResponse must consume synchronous iterators"
TROUBLE = re.compile(r"Traceback|\w*Warning\b|^(WARNING|ERROR|CRITICAL)\b")


class Check:
    """Counts and prints. A page is a name, a request, and what its answer must be."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.failures = 0

    def page(
        self,
        name: str,
        path: str,
        status: int = 200,
        text: str = "",
        form: dict[str, str] | None = None,
    ) -> None:
        """Request `path` (a POST if there is a form) and judge the answer.

        `text` must be in the body or, for a redirection, in its target.
        """
        answer = self.client.request(path, form)
        faults = []
        if answer.status != status:
            faults.append(f"expected {status}")
        if text not in (answer.location or answer.text):
            faults.append(f"{text!r} is missing")
        self.report(f"{answer.status}", answer.seconds, name, "; ".join(faults))

    def fact(self, name: str, holds: Callable[[], bool], fault: str) -> None:
        """Judge anything that is not a page; `holds` may wait for it."""
        start = time.perf_counter()
        true = holds()
        self.report(
            "ok" if true else "no", time.perf_counter() - start, name, "" if true else fault
        )

    def report(self, status: str, seconds: float, name: str, fault: str) -> None:
        self.failures += bool(fault)
        mark = f"   FAILED: {fault}" if fault else ""
        print(f"{status:>4} {seconds * 1000:8.1f} ms  {name}{mark}", flush=True)


def check_pages(check: Check, postgresql: bool) -> None:
    """Everything that needs no login."""
    page = check.page
    page("front page", "/", text="Shanghai")
    page("map of the world", "/map.svg", text="<path")
    page("style sheet", "/static/atlas/atlas.css", text="--paper")
    page("static file that does not exist", "/static/atlas/none.css", 404)
    page("search", "/search/?q=york", text="New York City")
    page("search by another name", f"/search/?q={quote('東京')}", text="Tokyo")
    page("search, second page", "/search/?q=san&page=2", text="page 2 of")
    page("search, no such page", "/search/?q=san&page=99999", text="Previous")
    page("search, page=abc", "/search/?q=san&page=abc", text="page 1 of")
    page("search, nothing found", "/search/?q=xyzzyx", text="No city of that name")
    page("search, empty", "/search/?q=", text="City name")
    page("search, NUL byte", "/search/?q=a%00b", 400, "Null characters")
    page("search, very long", f"/search/?q={'long' * 25}", 400, "at most 60 characters")
    page("search, punctuation", "/search/?q=%25_", 400, "at least one letter")
    if not STOCK:
        check_suggestions(check)
    page("countries", "/countries/", text="Zimbabwe")
    page("country, parallel", "/countries/CH/", text="at the same time")
    page("country, sequential", "/countries/CH/?mode=sequential", text="one after another")
    if postgresql:
        page("country, latency 20", "/countries/CH/?latency=20", text="pg_sleep")
        check_parallel(check)
    else:
        page("country, latency 20", "/countries/CH/?latency=20", text="were not added")
    page("country, small letters", "/countries/ch/", text="Switzerland")
    page("country without cities", "/countries/AQ/", text="Antarctica")
    page("country, no such mode", "/countries/CH/?mode=sideways", 400, "not clear")
    page("country, too much latency", "/countries/CH/?latency=201", 400, "not clear")
    page("no such country", "/countries/ZZ/", 404, "Not on this map")
    page("city", f"/cities/{LONDON}/", text="Europe/London")
    page("no such city", "/cities/1/", 404, "Not on this map")
    page("number beyond any city", "/cities/99999999999999999999/", 404, "Not on this map")
    page("city as JSON", f"/api/cities/{LONDON}/", text='"name": "London"')
    page("no such city as JSON", "/api/cities/1/", 404, "error")
    page("no such page", "/nowhere/", 404, "Not on this map")
    page("address without its slash", "/countries", 301, "/countries/")


def check_suggestions(check: Check) -> None:
    """Ask over a websocket, as the search field does while somebody types."""

    def suggests(text: str, name: str) -> bool:
        with closing(WebSocket(check.client, "/search/suggestions/")) as socket:
            return name in socket.ask(text) and socket.ask("?") == "[]"

    check.fact("suggestions", lambda: suggests("new yo", "New York City"), "no New York City")


def check_parallel(check: Check) -> None:
    """Six queries of 60 ms each: at the same time, they cannot take the sum of them."""

    def seconds(mode: str) -> float:
        return check.client.request(f"/countries/CH/?latency=60&mode={mode}").seconds

    if not STOCK:  # stock Django runs them one after another in either mode
        check.fact(
            "six slow queries run at the same time",
            lambda: seconds("parallel") < seconds("sequential") / 2,
            "parallel took more than half of sequential",
        )


def check_notes(check: Check) -> None:
    """Log in, write a note, see it arrive on an open feed, log out."""
    page, city = check.page, f"/cities/{LONDON}/"
    page("note without login", city, 302, "/login/", token(check))
    page("login page", f"/login/?next={city}", text="Log in")
    page("login, wrong password", "/login/", 200, "correct username", login(check, "wrong"))
    page("login", f"/login/?next={city}", 302, city, login(check, "demo"))
    page("city with its form", city, text="Save the note")
    page("note without CSRF token", city, 403, "out of date", {"text": "x"})
    page("empty note", city, 400, "This field is required", note(check, ""))
    page("note too long", city, 400, "at most 280 characters", note(check, "x" * 281))
    words = f"Seen from the check at {time.time():.6f} <b>&"
    with Feed(check.client) as feed:
        check.fact("feed opens", lambda: feed.sees(": connected"), "no greeting")
        page("note", city, 302, city, note(check, words))
        check.fact("note arrives on the feed", lambda: feed.sees(words), "not within 5 s")
        check.fact("idle feed shows signs of life", lambda: feed.sees(": keep-alive"), "none")
    page("city with the note", city, text="Your note on London is saved")
    page("front page with the note", "/", text="&lt;b&gt;&amp;")
    page("country with the note", "/countries/GB/", text="&lt;b&gt;&amp;")
    with Feed(check.client, last_seen="0") as feed:
        check.fact("returning feed gets what it missed", lambda: feed.sees(words), "not within 5 s")


def check_admin(check: Check) -> None:
    """The admin, as the demo user."""
    page = check.page
    page("admin", "/admin/", text="Site administration")
    page("admin, style sheet", "/static/admin/css/base.css", text="--primary")
    page("admin, cities", "/admin/atlas/city/", text="Shanghai")
    page("admin, search for a city", "/admin/atlas/city/?q=zurich", text="rich")
    page("admin, cities by continent", "/admin/atlas/city/?country__continent__code__exact=OC")
    page("admin, countries", "/admin/atlas/country/", text="Afghanistan")
    page("admin, notes", "/admin/atlas/note/", text="Seen from the check")
    page("admin, one city", f"/admin/atlas/city/{LONDON}/change/", text="Europe/London")
    page("admin, one country", "/admin/atlas/country/CH/change/", text="Switzerland")
    page(
        "admin, autocomplete",
        "/admin/autocomplete/?app_label=atlas&model_name=note&field_name=city&term=lisb",
        text="Lisbon",
    )
    path = first_note(check)
    page("admin, one note", f"{path}change/", text="Seen from the check")
    page("admin, history of a note", f"{path}history/", text="Written on the city")
    fields = {"city": str(LONDON), "author": "1", "text": "Changed by the check", **token(check)}
    page("admin, change a note", f"{path}change/", 302, "/note/", fields)
    page("admin, changed note", "/admin/atlas/note/", text="was changed successfully")
    page("admin, delete a note", f"{path}delete/", 302, "/note/", {"post": "yes", **token(check)})
    page("admin, no notes left", "/admin/atlas/note/", text="0 notes")
    page("log out", "/logout/", 302, "/", token(check))
    page("admin without login", "/admin/", 302, "/admin/login/")


def first_note(check: Check) -> str:
    found = re.search(
        r"(/admin/atlas/note/\d+/)change/", check.client.request("/admin/atlas/note/").text
    )
    return found[1] if found else "/admin/atlas/note/0/"


def token(check: Check) -> dict[str, str]:
    """The CSRF field of a form; the login page hands the cookie out to everybody."""
    if "csrftoken" not in check.client.cookies:
        check.client.request("/login/")
    return {"csrfmiddlewaretoken": check.client.cookies.get("csrftoken", "")}


def login(check: Check, password: str) -> dict[str, str]:
    return {"username": "demo", "password": password, **token(check)}


def note(check: Check, words: str) -> dict[str, str]:
    return {"text": words, **token(check)}


@contextmanager
def scratch_database(url: str) -> Iterator[str]:
    """The URL of a database that exists for this run only."""
    if not url or urlsplit(url).scheme == "sqlite":
        with tempfile.TemporaryDirectory(prefix="atlas-check-") as folder:
            yield f"sqlite:///{Path(folder) / 'atlas.sqlite3'}"
        return
    database.from_url(url)  # refuses what is wrong with it
    parts = urlsplit(url)
    scratch = urlunsplit(parts._replace(path=f"{parts.path}_check_{os.getpid()}"))
    config = database.from_url(scratch)
    create_database(config)
    try:
        yield scratch
    finally:
        database.drop(config)


def judge_output(check: Check, server: Server) -> None:
    lines = [line for line in server.output if TROUBLE.search(line)]
    if STOCK:
        lines = [line for line in lines if STOCK_WARNING not in line]
    fault = f"{len(lines)} suspicious lines, the first: {lines[0].strip()}" if lines else ""
    check.report("ok" if not lines else "no", 0, "server wrote no traceback, no warning", fault)


def run(url: str) -> int:
    """Start, check, stop; return the number of failures."""
    environment: dict[str, Any] = {
        **os.environ,
        "DATABASE_URL": url,
        "FEED_KEEP_ALIVE": "0.5",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "DEBUG": "",
        "PYTHONWARNINGS": "default",
    }
    with Server(environment) as server:
        check = Check(Client(server.address))
        check_pages(check, postgresql=urlsplit(url).scheme.startswith("postgres"))
        check_notes(check)
        check_admin(check)
        with Feed(check.client) as feed:
            feed.sees(": connected")
            check.fact("server stops, with a feed open", server.stop, "it had to be killed")
            check.fact("feed was ended", feed.ends, "its connection stayed open")
    judge_output(check, server)
    if check.failures:
        print(f"\nThe server wrote:\n\n{''.join(server.output)}")
    return check.failures


def main() -> int:
    # A `kill` unwinds as an error does, so that server and database are removed all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    start = time.perf_counter()
    print("Starting a server on a database of its own ...", flush=True)
    try:
        with scratch_database(os.environ.get("DATABASE_URL", "")) as url:
            failures = run(url)
    except (ImproperlyConfigured, OSError) as error:
        print(error)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; server and database are removed.")
        return 130
    outcome = f"Failed: {failures}" if failures else "Everything is as it should be"
    print(f"\n{outcome} ({time.perf_counter() - start:.1f} s).")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
