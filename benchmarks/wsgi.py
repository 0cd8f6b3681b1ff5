"""What a request costs under WSGI, without and with the series.

    python benchmarks/wsgi.py
    python benchmarks/wsgi.py --max-ratio 1.1

`WSGIHandler` is called directly, with the seven default middleware, for a synchronous view, a
coroutine view, and a view of each kind that reads one row from an in-memory SQLite database. The
series promises that WSGI is not slower. Each figure comes from a process of its own, and the two
take turns. No server is needed.

Exit status: 0, or 1 if a ratio is higher than `--max-ratio` allows.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from report import markdown, ratios, spread

ROOT = Path(__file__).resolve().parent.parent
STOCK, OURS = "Django", "Django + django-aio"
NAMES = (STOCK, OURS)
APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
PAGES = ("sync", "coroutine", "sync-row", "coroutine-row")
# The shortest of many short timings in one process: whatever is longer was disturbed.
TIMINGS = 300


def child(name: str, requests: int) -> None:
    """Print the microseconds of one request of each page, as JSON."""
    sys.path.insert(0, str(ROOT))
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[*APPS, "django.contrib.messages", *["django_aio"] * (name == OURS)],
        MIDDLEWARE=MIDDLEWARE,
        ROOT_URLCONF="wsgi_urls",
        SECRET_KEY="only for benchmarks",
    )
    if name == OURS:
        # Django takes any importable name for an app: a checkout that applies nothing is no rival.
        importlib.import_module("django_aio.apps")
    django.setup()
    prepare()
    print(json.dumps({page: microseconds(page, requests) for page in PAGES}))


def prepare() -> None:
    """Make the URLconf, and a table with one row in the database of this thread."""
    from types import ModuleType

    from django.contrib.contenttypes.models import ContentType
    from django.db import connection
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    with connection.schema_editor() as editor:
        editor.create_model(ContentType)
    ContentType.objects.create(pk=1, app_label="app", model="model")

    def sync(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"message": "Hello, World!"})

    async def coroutine(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"message": "Hello, World!"})

    def sync_row(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"model": ContentType.objects.get(pk=1).model})

    async def coroutine_row(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"model": (await ContentType.objects.aget(pk=1)).model})

    urls: Any = ModuleType("wsgi_urls")
    views: dict[str, Callable[..., Any]] = {
        "sync": sync,
        "coroutine": coroutine,
        "sync-row": sync_row,
        "coroutine-row": coroutine_row,
    }
    urls.urlpatterns = [path(f"{page}/", view) for page, view in views.items()]
    sys.modules[urls.__name__] = urls


def microseconds(page: str, requests: int) -> float:
    """Time one page, after a first request that fills every cache."""
    from django.core.handlers.wsgi import WSGIHandler

    handler: Any = WSGIHandler()

    def request() -> None:
        statuses: list[str] = []
        environ = {
            "PATH_INFO": f"/{page}/",
            "REQUEST_METHOD": "GET",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http",
        }
        response = handler(environ, lambda status, headers: statuses.append(status))
        body = b"".join(response)
        # Not response.close(): it would close the in-memory database with its row.
        if statuses != ["200 OK"] or not body:
            raise SystemExit(f"{page} answered {statuses}")

    def timing() -> float:
        start = perf_counter()
        for _ in range(requests):
            request()
        return (perf_counter() - start) / requests * 1e6

    request()
    return min(timing() for _ in range(TIMINGS))


def figures(name: str, requests: int) -> dict[str, float]:
    """Run `child()` in a process of its own."""
    command = [sys.executable, __file__, f"--requests={requests}", f"--child={name}"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode or not finished.stdout.strip():
        sys.exit(f"error: {name} could not be measured\n{finished.stderr}")
    found: dict[str, float] = json.loads(finished.stdout)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=int, default=7)
    add("--requests", type=int, default=5, help="requests per timing")
    add("--max-ratio", type=float, help="exit with 1 if a ratio is higher")
    add("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.child, options.requests)
        return 0
    found: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for _ in range(options.rounds):
        for name in NAMES:
            found[name].append(figures(name, options.requests))
    rows, medians = [], []
    for page in PAGES:
        stock, ours = ([each[page] for each in found[name]] for name in NAMES)
        ratio = ratios(ours, stock)
        medians.append(statistics.median(ratio))
        rows.append([page, spread(stock, digits=0), spread(ours, digits=0), spread(ratio, "x")])
    print(markdown(["view", f"{STOCK}, µs", f"{OURS}, µs", "ratio (range)"], rows))
    return int(options.max_ratio is not None and max(medians) > options.max_ratio)


if __name__ == "__main__":
    sys.exit(main())
