"""How long the event loop stands still while a hundred clients log in at once.

    python benchmarks/logins.py
    python benchmarks/logins.py --database sqlite
    python benchmarks/logins.py --logins 100 --max-stall 20

One process with the default hasher, PBKDF2, serves the login page of `django.contrib.auth` as an
ASGI application, without a server: form, user, password, session, redirect. A hundred clients come
one turn of the loop after the other, as a server lets them in, and are all there long before the
first is served; every tenth has a wrong password, every tenth a wrong name. Meanwhile a coroutine
looks at the clock as often as the loop lets it. The longest time between two looks is how long
everybody else was kept waiting. The first row is the same loop with nothing to do: what the machine
alone keeps it waiting. Needs a PostgreSQL server (see README.md), or SQLite, whose driver has a
thread for each connection: these compete for Python's global lock while the clients arrive.

Exit status: 0, or 1 if a login was answered wrongly, or the median of the rounds is above
`--max-stall`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import statistics
import sys
import time
from collections.abc import Coroutine, Sequence
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import urlencode

from databases import made
from report import markdown

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "correct horse"
TOKEN = b"t" * 32  # any will do if the cookie and the header agree
WRONG_EVERY = 10
IDLE = 5.0  # seconds
MILLISECONDS = 1000

APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_aio",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
PAGES = {"registration/login.html": "{{ form.as_p }}"}
TEMPLATES = {
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", PAGES)]},
}

T = TypeVar("T")


def connection(engine: str, name: str) -> dict[str, Any]:
    """The settings of the database."""
    if engine == "sqlite":
        options: dict[str, Any] = {"transaction_mode": "IMMEDIATE", "timeout": 60}
        options["init_command"] = "PRAGMA journal_mode=WAL"
    else:
        options = {"pool": {"min_size": 4, "max_size": 10, "timeout": 60}}
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": name,
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "OPTIONS": options,
    }


def set_up(engine: str, name: str) -> Any:
    """Configure Django with one user and return the ASGI application."""
    sys.path.insert(0, str(ROOT))
    import django
    from django.conf import settings

    urls: Any = ModuleType("urls")
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": connection(engine, name)},
        INSTALLED_APPS=APPS,
        LOGIN_REDIRECT_URL="/",
        MIDDLEWARE=MIDDLEWARE,
        ROOT_URLCONF=urls,
        SECRET_KEY="only for this measurement",
        TEMPLATES=[TEMPLATES],
        USE_TZ=True,
    )
    # Django takes any importable name for an app: a checkout that applies nothing is no rival.
    importlib.import_module("django_aio.apps")
    django.setup()
    from django.contrib.auth.models import User
    from django.contrib.auth.views import LoginView
    from django.core.asgi import get_asgi_application
    from django.core.management import call_command
    from django.db import connections
    from django.urls import path

    urls.urlpatterns = [path("login/", LoginView.as_view())]
    call_command("migrate", verbosity=0)
    User.objects.create_user("reader", password=PASSWORD)
    connections.close_all()
    if engine == "postgresql":
        connections["default"].close_pool()  # that of this thread, which would keep the database
    return get_asgi_application()


async def log_in(application: Any, number: int) -> float:
    """One client. Returns the seconds it took; raises SystemExit if the answer is wrong."""
    name = "nobody" if number % WRONG_EVERY == 1 else "reader"
    password = "wrong" if number % WRONG_EVERY == 0 else PASSWORD
    body = urlencode({"username": name, "password": password}).encode()
    right = (name, password) == ("reader", PASSWORD)
    status = 0
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    began = time.perf_counter()
    await application(_scope(body), receive, send)
    expected = HTTPStatus.FOUND if right else HTTPStatus.OK
    if status != expected:
        sys.exit(f"error: the login of {name!r} was answered with {status}, not {expected}")
    return time.perf_counter() - began


def _scope(body: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/login/",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"content-length", str(len(body)).encode()),
            (b"cookie", b"csrftoken=" + TOKEN),
            (b"x-csrftoken", TOKEN),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("localhost", 80),
    }


async def watch(gaps: list[float]) -> None:
    """Note the time between one look at the clock and the next, for as long as it runs."""
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        gaps.append(now - last - 0.001)
        last = now


async def all_log_in(application: Any, logins: int) -> list[float]:
    """The seconds of each client."""
    clients = []
    for number in range(logins):
        clients.append(asyncio.create_task(log_in(application, number)))
        await asyncio.sleep(0)
    return await asyncio.gather(*clients)


async def watched(work: Coroutine[Any, Any, T]) -> tuple[T, float, list[float]]:
    """Await the work. Return its result, how long it took, and the gaps meanwhile."""
    gaps: list[float] = []
    watching = asyncio.create_task(watch(gaps))
    began = time.perf_counter()
    result = await work
    seconds = time.perf_counter() - began
    watching.cancel()
    return result, seconds, gaps


def stalls(gaps: list[float]) -> list[str]:
    """The cells of one row: median, 99th percentile and longest, in milliseconds."""
    found = sorted(gap * MILLISECONDS for gap in gaps)
    return [f"{found[int((len(found) - 1) * part)]:.1f}" for part in (0.5, 0.99, 1)]


async def measure(application: Any, options: argparse.Namespace) -> list[list[str]]:
    """Run the rounds, after a small one that is not counted and one without work."""
    await all_log_in(application, 4)
    _, _, gaps = await watched(asyncio.sleep(IDLE))
    rows = [["idle", "", "", *stalls(gaps)]]
    for number in range(options.rounds):
        took, seconds, gaps = await watched(all_log_in(application, options.logins))
        rate, middle = f"{options.logins / seconds:.1f}", f"{statistics.median(took):.1f}"
        rows.append([f"round {number + 1}", rate, middle, *stalls(gaps)])
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--logins", type=int, default=100, help="at the same moment")
    add("--rounds", type=int, default=3)
    add("--max-stall", type=float, help="milliseconds: exit with 1 if the loop stood still longer")
    add("--database", choices=["postgresql", "sqlite"], default="postgresql")
    options = parser.parse_args(arguments)
    with made(options.database) as name:
        rows = asyncio.run(measure(set_up(options.database, name), options))
    titles = [
        "",
        "logins/s",
        "median login, s",
        "stall p50, ms",
        "stall p99, ms",
        "longest stall, ms",
    ]
    print(markdown(titles, rows))
    longest = statistics.median(float(row[-1]) for row in rows[1:])
    return int(options.max_stall is not None and longest > options.max_stall)


if __name__ == "__main__":
    sys.exit(main())
