#!/usr/bin/env python
"""Whose answer is it? Many clients at a time, each with an identity, a language, a zone, a tenant.

    benchmarks/whose.py --minutes 5 --clients 50
    benchmarks/whose.py --seconds 10 --loop uvloop --pool no --seed 7

uvicorn serves a site in this process. Each client is a user with a session, a language, a time
zone, and a tenant, which a middleware sets in the database session; row-level security shows a
tenant's rows only. Over keep-alive connections, some of them pipelined, it asks for pages of every
kind, uploads, hangs up, and meets errors. Every answer is compared with what only this client may
see. Exit status 1 if anything was another's. The server is that of PGHOST, PGPORT, PGUSER and
PGPASSWORD.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import logging
import os
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent))

LANGUAGES = ("en", "fr", "de", "es", "it")
ZONES = ("UTC", "Asia/Tokyo", "Europe/Paris", "America/Lima", "Africa/Cairo")
PAGES = ("one", "many", "listed", "thread", "stream", "block")
ROLE = f"aio_whose_{os.getpid()}"
TENANT = "(SELECT string_agg(DISTINCT tenant, '+') FROM things)"


def main() -> int:
    """Serve and ask. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--pool", choices=("yes", "no"), default="yes")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    from databases import made

    os.environ.setdefault("BENCH_DB", f"aio_bench_whose_{os.getpid()}")
    with made("postgresql") as name:
        prepare(name)
        try:
            configure(name, pool=options.pool == "yes")
            seen = run(options)
        finally:
            as_owner("postgres", f"DROP OWNED BY {ROLE}", dbname=name)
            as_owner("postgres", f"DROP ROLE {ROLE}")
    wrong = [key for key in seen if key.startswith("WRONG")]
    counts = ", ".join(f"{seen[key]} {key}" for key in sorted(seen) if key not in wrong)
    print(f"{options.loop}, pool {options.pool}, seed {options.seed}: {counts}; {len(wrong)} wrong")
    for each in wrong[:10] + Failures.tracebacks[:10]:
        print(f"  {each}")
    return 1 if wrong else 0


def run(options: argparse.Namespace) -> collections.Counter[str]:
    """All clients, for the time asked for."""
    seen: collections.Counter[str] = collections.Counter()
    seconds = options.minutes * 60 or options.seconds
    if options.loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_and_ask(options, seconds, seen))
    else:
        asyncio.run(serve_and_ask(options, seconds, seen))
    return seen


def as_owner(user: str, sql: str, dbname: str = "postgres") -> None:
    """Run SQL as the owner of the server."""
    import psycopg

    server = {
        "host": os.environ.get("PGHOST", "127.0.0.1"),
        "port": os.environ.get("PGPORT", "5432"),
        "user": os.environ.get("PGUSER", user),
        "password": os.environ.get("PGPASSWORD", ""),
    }
    with psycopg.connect(dbname=dbname, autocommit=True, **server) as connection:
        connection.execute(sql)  # type: ignore[call-overload]


def prepare(name: str) -> None:
    """A role without privileges, and a table of which it sees its tenant's rows."""
    as_owner("postgres", f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
    as_owner(
        "postgres",
        f"""CREATE TABLE things AS
            SELECT 'tenant' || n % 50 AS tenant FROM generate_series(0, 199) n;
        ALTER TABLE things ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON things USING (tenant = current_setting('app.tenant', true));
        GRANT SELECT ON things TO {ROLE}; GRANT CREATE, USAGE ON SCHEMA public TO {ROLE}""",
        dbname=name,
    )


def configure(name: str, *, pool: bool) -> None:
    """The settings of the site, and the tables of users and sessions."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(
        ALLOWED_HOSTS=["*"],
        AIO={"COOPERATIVE": ["__main__.listed", "__main__.identify"]},
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": name,
                "USER": ROLE,
                "HOST": os.environ.get("PGHOST", "127.0.0.1"),
                "PASSWORD": ROLE,
                "OPTIONS": {"pool": {"min_size": 2, "max_size": 8}} if pool else {},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            *("django_aio", "django.contrib.contenttypes", "django.contrib.auth"),
            "django.contrib.sessions",
        ],
        LANGUAGE_CODE="en",
        LANGUAGES=[(code, code) for code in LANGUAGES],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "__main__.identify",
        ],
        ROOT_URLCONF="__main__",
        LOGGING_CONFIG=None,
        SECRET_KEY="not secret",
        USE_TZ=True,
    )
    logging.getLogger("django.request").addHandler(Failures())
    django.setup()
    call_command("migrate", verbosity=0)
    from django.db import connections

    connections.close_all()


class Failures(logging.Handler):
    """Keeps the tracebacks of the errors that no page raises on purpose."""

    tracebacks: ClassVar[list[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not ZeroDivisionError:
            self.tracebacks.append("".join(traceback.format_exception(record.exc_info[1])))


def identify(get_response: Any) -> Any:
    """A middleware: language, zone and tenant, if the client says so."""
    from django.db import connection
    from django.utils import timezone, translation

    def middleware(request: Any) -> Any:
        if tenant := request.headers.get("x-tenant"):
            translation.activate(request.headers["x-language"])
            timezone.activate(request.headers["x-zone"])
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('app.tenant', %s, false)", [tenant])
        return get_response(request)

    return middleware


def answer(request: Any) -> str:
    """Who the request is, as synchronous code sees it."""
    from django.contrib.auth.models import User
    from django.utils import timezone, translation

    users = User.objects.raw(f"SELECT 1 AS id, {TENANT} AS username")
    tenant = users[0].username
    zone = timezone.get_current_timezone_name()
    return f"{request.user.username} {translation.get_language()} {zone} {tenant}"


async def login(request: Any) -> Any:
    from django.contrib.auth import alogin
    from django.contrib.auth.models import User
    from django.http import HttpResponse

    user, _ = await User.objects.aget_or_create(username=request.headers["x-user"])
    await alogin(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse("welcome")


async def one(request: Any) -> Any:
    from django.http import HttpResponse

    from django_aio import run

    await (await request.auser()).arefresh_from_db()
    return HttpResponse(await run(answer, request))


async def many(request: Any) -> Any:
    from django.http import HttpResponse

    from django_aio import run

    found = await asyncio.gather(*(run(answer, request) for _ in range(3)))
    return HttpResponse("|".join(set(found)))


async def block(request: Any) -> Any:
    from django.db import transaction
    from django.http import HttpResponse

    from django_aio import run

    async with transaction.atomic():
        return HttpResponse(await asyncio.create_task(run(answer, request)))


def listed(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse(answer(request))


def thread(request: Any) -> Any:
    return listed(request)


async def stream(request: Any) -> Any:
    from django.http import StreamingHttpResponse

    from django_aio import run

    async def parts() -> Any:
        for _ in range(2):
            yield f"{await run(answer, request)}|"
            await asyncio.sleep(0.001)

    return StreamingHttpResponse(parts())


async def upload(request: Any) -> Any:
    from django.http import HttpResponse

    from django_aio import run

    return HttpResponse(f"{await run(answer, request)}" if request.body else "nothing")


async def fail(request: Any) -> Any:
    from django_aio import run

    await run(answer, request)
    raise ZeroDivisionError


async def bare(request: Any) -> Any:
    """What is there without an identity: nothing of anybody's."""
    from django.http import HttpResponse

    from django_aio import run

    return HttpResponse(await run(answer, request))


def __getattr__(name: str) -> Any:
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    views = (login, one, many, block, listed, thread, stream, csrf_exempt(upload), fail, bare)
    return [path(view.__name__, view) for view in views]


class Client:
    """One identity and one connection."""

    def __init__(self, number: int, port: int, dice: random.Random, seen: Any) -> None:
        self.number, self.port, self.dice, self.seen = number, port, dice, seen
        self.language, self.zone = LANGUAGES[number % 5], ZONES[number // 5 % 5]
        self.expected = f"user{number} {self.language} {self.zone} tenant{number % 50}"
        self.cookie = ""
        self.connection: Any = None

    def request(self, page: str, *, identity: bool = True, body: bytes = b"") -> bytes:
        lines = [f"{'POST' if body else 'GET'} /{page} HTTP/1.1", "Host: x"]
        if identity:
            lines += [f"X-User: user{self.number}", f"X-Language: {self.language}"]
            lines += [f"X-Zone: {self.zone}", f"X-Tenant: tenant{self.number % 50}"]
            lines += [f"Cookie: sessionid={self.cookie}"] if self.cookie else []
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def read(self) -> tuple[int, str]:
        reader = self.connection[0]
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if "set-cookie: sessionid=" in head:
            self.cookie = head.partition("set-cookie: sessionid=")[2].partition(";")[0]
        body = b""
        if "content-length: " in head:
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            body = await reader.readexactly(int(length))
        while "transfer-encoding: chunked" in head:
            size = int(await reader.readline(), 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if not size:
                break
        return int(head.split()[1]), body.decode()

    async def live(self, until: float) -> None:
        """Ask for one thing after another."""
        while time.monotonic() < until:
            try:
                await asyncio.wait_for(self.ask(), 30)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                self.seen["lost connections"] += 1
                self.connection = None
            except TimeoutError:
                self.seen[f"WRONG: user{self.number} waited for 30 s"] += 1
                self.connection = None

    async def ask(self) -> None:
        if self.connection is None:
            self.connection = await asyncio.open_connection("127.0.0.1", self.port)
        if not self.cookie:
            self.connection[1].write(self.request("login"))
            await self.read()
        what = self.dice.choice((*PAGES, "upload", "fail", "bare", "pipelined", "hang up"))
        writer = self.connection[1]
        if what == "hang up":
            writer.write(self.request(self.dice.choice(PAGES)))
            await asyncio.sleep(self.dice.random() * 0.02)
            writer.transport.abort()
            self.connection = None
        elif what == "pipelined":
            pages = [self.dice.choice(PAGES), "bare", self.dice.choice(PAGES)]
            for page in pages:
                writer.write(self.request(page, identity=page != "bare"))
            for page in pages:
                self.judge(page, *await self.read())
        else:
            body = b"x" * self.dice.choice((10, 300_000)) if what == "upload" else b""
            writer.write(self.request(what, identity=what != "bare", body=body))
            self.judge(what, *await self.read())
        self.seen[what] += 1

    def judge(self, page: str, status: int, text: str) -> None:
        expected = " en America/Chicago None" if page == "bare" else self.expected
        found = {part for part in text.split("|") if part}
        right = status == 500 if page == "fail" else (status == 200 and found == {expected})
        if not right:
            self.seen[f"WRONG: {page} of {self.expected!r}: {status} {text[:100]!r}"] += 1


async def serve_and_ask(options: argparse.Namespace, seconds: float, seen: Any) -> None:
    import uvicorn
    from django.core.asgi import get_asgi_application

    config = uvicorn.Config(get_asgi_application(), port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    until = time.monotonic() + seconds
    dice = random.Random(options.seed)
    clients = [
        Client(number, port, random.Random(dice.random()), seen)
        for number in range(options.clients)
    ]
    await asyncio.gather(*(client.live(until) for client in clients))
    server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    sys.exit(main())
