"""Check the demo under every ASGI server that is installed: `python demo/servers.py [NAME ...]`.

The pages of check.py are requested from each of uvicorn, hypercorn, daphne and granian in turn,
started by their own commands with Python's warnings as errors. Then: a visitor who goes away in the
middle of a slow page (with PostgreSQL: no statement follows, no session is left at work), and a
SIGTERM while a feed is open, which these servers obey when its visitor has gone.

`DATABASE_URL` is what it is for check.py. Exit status 0: every server did all of it, and wrote
nothing but lines of its own.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from urllib.parse import urlsplit

from check import Check, check_admin, check_notes, check_pages, judge_output, scratch_database
from check_client import FOLDER, START_SECONDS, STOP_SECONDS, Client, Feed, Server
from project import database

APPLICATION = "project.asgi:application"
COMMANDS = {
    "uvicorn": f"uvicorn --port {{port}} {APPLICATION}",
    "hypercorn": f"hypercorn --bind 127.0.0.1:{{port}} {APPLICATION}",
    "daphne": f"daphne -b 127.0.0.1 -p {{port}} {APPLICATION}",
    "granian": f"granian --interface asgi --host 127.0.0.1 --port {{port}} {APPLICATION}",
}
STOPPED = (0, -signal.SIGTERM, 128 + signal.SIGTERM)  # some raise the signal again
QUIET_SECONDS = 1.0


class Started(Server):
    """A server that was started by its own command on a free port."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = COMMANDS[name].format(port=self.port).split()
        super().__init__(environment, "-W", "error", "-m", *command)

    def wait_until_ready(self) -> str:
        """Wait until something listens. Raises SystemExit if nothing does."""
        end = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.05)
            else:
                return f"http://127.0.0.1:{self.port}/"
        raise SystemExit(f"The server did not start:\n\n{''.join(self.output)}")

    def terminate(self) -> None:
        """Send SIGTERM, and do not wait."""
        self._process.terminate()

    def stops(self) -> bool:
        """Whether it ends in order, and in time."""
        try:
            return self._process.wait(STOP_SECONDS) in STOPPED
        except subprocess.TimeoutExpired:
            return False


class Sessions:
    """What the PostgreSQL server says of the sessions on the demo's database."""

    def __init__(self, url: str) -> None:
        import psycopg

        self.name = str(database.from_url(url)["NAME"])
        self._connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def count(self, condition: str) -> int:
        row = self._connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE datname = %s AND pid <> pg_backend_pid() AND {condition}",
            [self.name],
        ).fetchone()
        assert row is not None
        return int(row[0])

    def wait_for(self, condition: str) -> bool:
        """Wait until there is a session of that kind."""
        end = time.monotonic() + STOP_SECONDS
        while time.monotonic() < end:
            if self.count(condition):
                return True
        return False

    def stay_quiet(self) -> bool:
        """Whether no statement begins for a while, and nothing is left at work after it."""
        row = self._connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        # A statement that began before the server heard of the disconnect does not count.
        began_later = f"query_start > timestamptz '{row[0]}' + interval '100 ms'"
        end = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < end:
            if self.count(f"query LIKE '%%pg_sleep%%' AND {began_later}"):
                return False
        return self.count("state <> 'idle'") == 0


def check_disconnect(check: Check, url: str) -> None:
    """Leave while six slow queries run one after another."""
    with closing(Sessions(url)) as sessions:
        with closing(socket.create_connection((check.client.host, check.client.port))) as visitor:
            host = f"{check.client.host}:{check.client.port}"
            target = "/countries/CH/?latency=200&mode=sequential"
            visitor.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            at_work = "state = 'active' AND query LIKE '%%pg_sleep%%'"
            check.fact("slow page queries", lambda: sessions.wait_for(at_work), "it does not")
        check.fact("its visitor leaves: the queries end", sessions.stay_quiet, "they went on")


def check_server(name: str, url: str) -> int:
    """Start, check, stop; return the number of failures."""
    print(f"\n{name}", flush=True)
    environment = settings_of(url)
    postgresql = urlsplit(url).scheme.startswith("postgres")
    with Started(name, environment) as server:
        check = Check(Client(server.address))
        check_pages(check, postgresql=postgresql)
        check_notes(check)
        check_admin(check)
        if postgresql:
            check_disconnect(check, url)
        with Feed(check.client) as feed:
            check.fact("feed opens", lambda: feed.sees(": connected"), "no greeting")
            server.terminate()
        check.fact("server stops", server.stops, "it had to be killed")
    judge_output(check, server)
    if check.failures:
        print(f"\n{name} wrote:\n\n{''.join(server.output)}")
    return check.failures


def settings_of(url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "FEED_KEEP_ALIVE": "0.5",
        "DEBUG": "",
        "PYTHONUNBUFFERED": "1",
    }


def main() -> int:
    names = sys.argv[1:] or list(COMMANDS)
    failures = 0
    with scratch_database(os.environ.get("DATABASE_URL", "")) as url:
        for command in (["migrate", "--verbosity=0"], ["load_atlas"]):
            script = [sys.executable, str(FOLDER / "manage.py"), *command]
            subprocess.run(script, env=settings_of(url), check=True)
        for name in names:
            if importlib.util.find_spec(name) is None:
                print(f"\n{name} is not installed: pip install {name}")
            else:
                failures += check_server(name, url)
    print(f"\nFailed: {failures}" if failures else "\nEverything is as it should be.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
