"""Caches, logins and logged-in pages: Django as it is, and with the series, side by side.

    python benchmarks/state.py
    python benchmarks/state.py --parts redis --tasks 200
    python benchmarks/state.py --check-ratios redis=5,form=4,login=4,account=4

    redis     `await cache.aset()` and `await cache.aget()` by many tasks of one process
    form      the login page
    login     a login: a form posted, a cheap hasher, a new session in the database
    account   a page for who is logged in: session, user, template

The pages are served by uvicorn and asked for by wrk, as in `run.py`; the cache is used by a process
of its own. Contenders take turns, and each figure comes from a fresh process. Redis is that of
`REDIS_URL` (database 9 of 127.0.0.1).

Exit status: 0; 1 if a part failed or a ratio is lower than `--check-ratios` demands.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib
import os
import statistics
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from http.cookies import SimpleCookie
from pathlib import Path
from time import perf_counter

from contenders import CONTENDERS, SITE, serve
from databases import prepared
from report import markdown, ratios, spread
from run import floors, names_among, positive
from wrk import load, require_wrk

sys.path.insert(0, str(SITE))
from bench.data import PASSWORD

ROOT = Path(__file__).resolve().parent.parent
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/9")
STOCK, OURS = "asgi", "aio"
PAGES = {"form": "/login", "login": "/login", "account": "/account"}
PARTS = ["redis", *PAGES]
# Any secret of the right length: the cookie and the field only have to agree.
TOKEN = "bench" * 6 + "xx"


class StateError(RuntimeError):
    """A page answered something else than it should."""


def child(name: str, tasks: int, seconds: float) -> None:
    """Print how many pairs of `aset()` and `aget()` this process does in a second."""
    sys.path.insert(0, str(ROOT))
    import django
    from django.conf import settings

    apps = ["django.contrib.contenttypes"]
    if name == OURS:
        apps.append("django_aio")
        # Django takes any importable name for an app: a checkout that applies nothing is no rival.
        importlib.import_module("django_aio.apps")
    backend = "django.core.cache.backends.redis.RedisCache"
    caches = {"default": {"BACKEND": backend, "LOCATION": REDIS_URL, "KEY_PREFIX": "aio_bench"}}
    settings.configure(INSTALLED_APPS=apps, CACHES=caches)
    django.setup()
    print(asyncio.run(pairs_per_second(tasks, seconds)))


async def pairs_per_second(tasks: int, seconds: float) -> float:
    """All tasks write and read keys of their own for that long, after as many rounds to warm up."""
    from django.core.cache import cache

    await cache.aset("0", "")  # the tasks share the cache object of this one

    async def use(number: int, until: float) -> int:
        count = 0
        while perf_counter() < until:
            await cache.aset(str(number), {"visits": count}, 60)
            if await cache.aget(str(number)) != {"visits": count}:
                raise SystemExit("the cache lost a value")
            count += 1
        return count

    async def use_all(length: float) -> float:
        start = perf_counter()
        counts = await asyncio.gather(*(use(n, start + length) for n in range(tasks)))
        return sum(counts) / (perf_counter() - start)

    await use_all(seconds / 4)
    found = await use_all(seconds)
    await cache.adelete_many(map(str, range(tasks)))
    return found


def redis_figure(options: argparse.Namespace, name: str) -> float:
    """Run `child()` in a process of its own."""
    command = [sys.executable, __file__, f"--child={name}"]
    command += [f"--tasks={options.tasks}", f"--seconds={options.seconds}"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode or not finished.stdout.strip():
        raise StateError(f"{name} could not be measured\n{finished.stderr}")
    return float(finished.stdout)


def page_figure(
    options: argparse.Namespace, database: dict[str, str], name: str, part: str
) -> float:
    """Requests per second of one page, from a server of its own."""
    with serve(CONTENDERS[name], database, threads=options.connections) as base:
        cookies, form = f"csrftoken={TOKEN}", ""
        if part == "login":
            form = log_in_form("user%d")
        session = check(base)
        if part == "account":
            cookies += f"; sessionid={session}"
        sample = None
        for seconds in (options.warmup, options.seconds):
            sample = load(
                base + PAGES[part],
                connections=options.connections,
                seconds=seconds,
                cookies=cookies,
                form=form,
            )
    assert sample is not None
    return sample.requests_per_second


def log_in_form(user: str) -> str:
    """What a browser posts. A `%d` in it is left as it is."""
    fields = {"username": user, "password": PASSWORD, "csrfmiddlewaretoken": TOKEN}
    return urllib.parse.urlencode(fields, safe="%")


def check(base: str) -> str:
    """Each page once; returns the session of who has logged in. Raises StateError."""
    status, _, body = ask(base, "GET", "/login", f"csrftoken={TOKEN}")
    if status != 200 or "csrfmiddlewaretoken" not in body:
        raise StateError(f"the login page answered {status}:\n{body[:2000]}")
    status, cookies, body = ask(base, "POST", "/login", f"csrftoken={TOKEN}", log_in_form("user7"))
    if status != 302 or "sessionid" not in cookies:
        raise StateError(f"a login answered {status}:\n{body[:2000]}")
    session = cookies["sessionid"].value
    status, _, body = ask(base, "GET", "/account", f"sessionid={session}")
    if status != 200 or "Logged in as user7." not in body:
        raise StateError(f"the page for who is logged in answered {status}:\n{body[:2000]}")
    if (status := ask(base, "GET", "/account", "")[0]) != 302:
        raise StateError(f"the page for who is logged in answered a stranger {status}")
    return session


def ask(
    base: str, method: str, path: str, cookies: str, form: str = ""
) -> tuple[int, SimpleCookie, str]:
    """One request, whose redirect is not followed."""
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=30)
    headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request(method, path, form, headers)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    found = SimpleCookie()
    for value in response.headers.get_all("Set-Cookie") or ():
        found.load(value)
    return response.status, found, body


def measure(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """The figures of each part and contender, taken in turns."""
    found: dict[str, dict[str, list[float]]] = {}
    with database_for(options) as database:
        for part in options.parts:
            found[part] = {STOCK: [], OURS: []}
            for number in range(1, options.rounds + 1):
                for name in (STOCK, OURS):
                    if part == "redis":
                        figure = redis_figure(options, name)
                    else:
                        figure = page_figure(options, database, name, part)
                    found[part][name].append(figure)
                    print(f"{part}, round {number}, {name}: {figure:,.0f}/s", file=sys.stderr)
    return found


@contextmanager
def database_for(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """The filled database, if a page is measured."""
    if options.parts != ["redis"]:
        require_wrk()
        manager = prepared(options.database, keep=False)
    else:
        manager = nullcontext({})
    with manager as database:
        yield database


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--parts", type=names_among(PARTS), default=PARTS, help=", ".join(PARTS))
    add("--rounds", type=positive, default=3)
    add("--seconds", type=positive, default=5, help="of each measurement")
    add("--warmup", type=positive, default=2, help="seconds before a page is measured")
    add("--connections", type=positive, default=32, help="that wrk keeps busy")
    add("--tasks", type=positive, default=100, help="that use the cache at the same time")
    add("--database", choices=["postgresql", "sqlite"], default="postgresql")
    add("--check-ratios", type=floors, default={}, metavar="redis=5,login=4")
    add("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.child, options.tasks, options.seconds)
        return 0
    if set(options.check_ratios) - set(options.parts):
        parser.error("--check-ratios names a part that is not measured")
    try:
        found = measure(options)
    except RuntimeError as error:  # the benchmarks' own are all of that kind
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(found))
    return int(too_low(options.check_ratios, found))


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """The Markdown table."""
    rows = []
    for part, figures in found.items():
        ratio = spread(ratios(figures[OURS], figures[STOCK]), "x")
        rows.append([part, *(spread(figures[name], digits=0) for name in (STOCK, OURS)), ratio])
    titles = [f"{CONTENDERS[name].title}, /s (range)" for name in (STOCK, OURS)]
    return markdown(["part", *titles, "ratio (range)"], rows)


def too_low(asked: dict[str, float], found: dict[str, dict[str, list[float]]]) -> bool:
    """Compare the median ratios with the floors, and say which are lower."""
    low = False
    for part, floor in asked.items():
        ratio = statistics.median(ratios(found[part][OURS], found[part][STOCK]))
        if ratio < floor:
            low = True
            print(f"error: {part} is {ratio:.2f}x, and {floor:g}x is asked for", file=sys.stderr)
    return low


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
