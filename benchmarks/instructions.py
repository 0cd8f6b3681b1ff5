"""How many instructions one request takes: in Django as it is, and in the series.

    python benchmarks/instructions.py
    python benchmarks/instructions.py --pages front,admin --check-ratios front=1,admin=1

    json, row, queries, fortunes   pages of the benchmark site, see run.py
    login, front                   the demo's login form and front page, for a visitor
    admin                          the admin's change list of 100 cities, for who is logged in

    wsgi    Django, the synchronous chain: WSGIHandler, synchronous views
    asgi    Django, ASGIHandler, the views as they are
    off     the same with the series and `AIO = {"SPEEDUPS": False}`
    on      the same with the series

valgrind counts the instructions of a whole process, with its threads and the database driver, but
without the kernel. The process calls the handler itself, without a server, for one request after
another: a few, and in a second process more of them, each after the same warm-up. The difference is
shown. What else the machine does changes nothing: a figure repeats to about 1 %.

Exit status: 0; 1 if a page failed or `off` is more than `--check-ratios` times `wsgi`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import io
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pages
import presentation
import run
from contenders import CONTENDERS, HOST
from databases import made, prepared
from report import markdown

# How many requests are counted: enough that they outweigh what differs between two processes.
PAGES = {"json": 300, "row": 200, "queries": 60, "fortunes": 150}
PAGES |= {"login": 60, "front": 30, "admin": 10}
OF_DEMO = presentation.PAGES | {"login": ("/login/", "csrfmiddlewaretoken")}
TITLES = {"wsgi": "WSGI", "asgi": "ASGI", "off": "aio, SPEEDUPS off", "on": "aio"}
QUOTIENTS = [("off", "wsgi"), ("on", "wsgi"), ("on", "asgi")]
WARM_UP, FEW = 12, 3
VALGRIND = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
TOTAL = re.compile(r"^==\d+== I\s+refs:\s+([\d,]+)$", re.MULTILINE)

Ask = Callable[[int], tuple[int, str]]  # asks so many times; returns the last status and body


class InstructionsError(RuntimeError):
    """A page could not be counted."""


def answer(page: str, name: str, session: str, requests: int) -> None:
    """In a process of its own: answer the warm-up and so many requests, and check the last one."""
    from django.conf import settings

    if name == "off":
        settings.AIO = {**getattr(settings, "AIO", {}), "SPEEDUPS": False}
    random.seed(0)
    path = OF_DEMO[page][0] if page in OF_DEMO else f"/{page}"
    cookie = f"sessionid={session}" if page == "admin" else ""
    with (wsgi if name == "wsgi" else asgi)(path, cookie) as ask:
        ask(WARM_UP)
        # Nobody's collection of garbage looks at what start-up left: when it would is chance.
        gc.collect()
        gc.freeze()
        status, body = ask(requests)
    right = OF_DEMO[page][1] in body if page in OF_DEMO else pages.PAGES[page](body)
    if status != 200 or not right:
        raise SystemExit(f"{name}: /{page} answered {status}\n{body[:2000]}")


@contextlib.contextmanager
def wsgi(path: str, cookie: str) -> Iterator[Ask]:
    """Have a function that asks WSGIHandler."""
    from django.core.wsgi import get_wsgi_application

    application: Any = get_wsgi_application()
    if os.environ["DJANGO_SETTINGS_MODULE"] == "project.settings":
        from atlas import views

        views.front = synchronous(views.front)

    def one() -> tuple[int, str]:
        statuses: list[str] = []
        environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_HOST": HOST}
        environ |= {"SERVER_NAME": HOST, "SERVER_PORT": "80", "QUERY_STRING": ""}
        environ |= {"wsgi.url_scheme": "http", "wsgi.input": io.BytesIO()}
        environ |= {"wsgi.errors": sys.stderr} | ({"HTTP_COOKIE": cookie} if cookie else {})
        response = application(environ, lambda status, headers: statuses.append(status))
        body = b"".join(response).decode()
        response.close()
        return int(statuses[0][:3]), body

    yield lambda times: [one() for _ in range(times)][-1]


def synchronous(view: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """A coroutine view that awaits nothing, as the function that it could be."""

    @functools.wraps(view)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            view(*args, **kwargs).send(None)
        except StopIteration as finished:
            return finished.value
        raise InstructionsError(f"{view} awaits something")

    return function


@contextlib.contextmanager
def asgi(path: str, cookie: str) -> Iterator[Ask]:
    """Have a function that asks ASGIHandler, in a task for each request, as servers do."""
    from django.core.asgi import get_asgi_application

    application: Any = get_asgi_application()
    headers = [(b"host", HOST.encode()), *([(b"cookie", cookie.encode())] if cookie else [])]
    fixed = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET"}
    fixed |= {"scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b""}
    fixed |= {"root_path": "", "server": (HOST, 80), "client": (HOST, 50000)}

    async def one() -> tuple[int, str]:
        arriving = [{"type": "http.request", "body": b"", "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return arriving.pop() if arriving else await asyncio.Future()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = fixed | {"headers": list(headers), "state": {}}
        await asyncio.create_task(application(scope, receive, send))
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], body.decode()

    async def ask(times: int) -> tuple[int, str]:
        return [await one() for _ in range(times)][-1]

    with asyncio.Runner() as runner:
        yield lambda times: runner.run(ask(times))


def counted(page: str, name: str, database: dict[str, str], session: str) -> float:
    """The instructions of one request."""
    aio = name in ("off", "on")
    if page in OF_DEMO:
        environ = (presentation.OURS if aio else presentation.STOCK).environ(database)
    else:
        environ = CONTENDERS["aio" if aio else name].environ(database)
    environ["PYTHONHASHSEED"] = "0"

    def child(requests: int, *prefix: str) -> str:
        command = [*prefix, sys.executable, __file__, f"--child={name}", f"--pages={page}"]
        command += [f"--session={session}", f"--requests={requests}"]
        done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True)
        if done.returncode:
            raise InstructionsError(f"/{page} of {name} failed:\n{done.stderr}")
        return done.stderr

    def total(requests: int) -> int:
        (found,) = TOTAL.findall(child(requests, *VALGRIND))
        return int(found.replace(",", ""))

    child(1)  # is the page right? It also writes the bytecode files, which only one would do.
    many = PAGES[page]
    figure = (total(FEW + many) - total(FEW)) / many
    print(f"/{page}, {name}: {figure / 1000:,.0f} thousand", file=sys.stderr, flush=True)
    return figure


@contextlib.contextmanager
def filled(engine: str, demo: bool) -> Iterator[tuple[dict[str, str], str]]:
    """Have the database of one of the two sites, and the key of a session in the demo's."""
    with made(engine) if demo else prepared(engine, keep=False) as found:
        database = presentation.database_of(engine, str(found)) if demo else dict(found)
        yield database, presentation.child(database, "--child=prepare") if demo else ""


def measure(options: argparse.Namespace) -> dict[tuple[str, str], float]:
    """The instructions of each page in each contender."""
    figures: dict[tuple[str, str], float] = {}
    for demo in sorted({page in OF_DEMO for page in options.pages}):
        of_site = [page for page in options.pages if (page in OF_DEMO) is demo]
        cells = [(page, name) for page in of_site for name in TITLES]
        with filled(options.database, demo) as where, ThreadPoolExecutor(options.jobs) as pool:
            found = pool.map(lambda cell, where=where: counted(*cell, *where), cells)
            figures |= dict(zip(cells, found, strict=True))
    return figures


def table(pages: Sequence[str], figures: dict[tuple[str, str], float]) -> str:
    """The Markdown table, in thousands of instructions."""
    rows = [
        [page, *(f"{figures[page, name] / 1000:,.0f}" for name in TITLES)]
        + [f"{figures[page, one] / figures[page, other]:.2f}" for one, other in QUOTIENTS]
        for page in pages
    ]
    quotients = [f"{TITLES[one]} / {TITLES[other]}" for one, other in QUOTIENTS]
    return markdown(["page", *TITLES.values(), *quotients], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--pages", type=run.names_among(PAGES), default=list(PAGES), help=", ".join(PAGES))
    add("--database", choices=["postgresql", "sqlite"], default="sqlite")
    add("--jobs", type=run.positive, default=os.cpu_count(), help="processes at a time")
    add("--check-ratios", type=run.floors, default={}, metavar="front=1,admin=1")
    add("--child", choices=TITLES, help=argparse.SUPPRESS)
    add("--session", help=argparse.SUPPRESS)
    add("--requests", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        answer(options.pages[0], options.child, options.session, options.requests)
        return 0
    if set(options.check_ratios) - set(options.pages):
        parser.error("--check-ratios names a page that is not measured")
    if shutil.which(VALGRIND[0]) is None:
        parser.error("valgrind is not installed")
    try:
        figures = measure(options)
    except RuntimeError as error:  # the benchmarks' own are all of that kind
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{run.versions()}; {options.database}.", table(options.pages, figures), sep="\n\n")
    status = 0
    for page, most in options.check_ratios.items():
        if (ratio := figures[page, "off"] / figures[page, "wsgi"]) > most:
            print(f"error: {page} is {ratio:.3f}, and {most:g} is allowed", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
