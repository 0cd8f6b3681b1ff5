"""Passwords are hashed in the threads of one executor, whoever asks, and never on the loop."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from asgi import Client
from django.contrib.auth import aauthenticate
from django.contrib.auth.hashers import (
    BasePasswordHasher,
    acheck_password,
    check_password,
    get_hasher,
    make_password,
)
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.test import override_settings
from django.urls import path
from hops import count_hops
from staying import urlconf

from django_aio import cooperative, run
from django_aio.contrib.auth import hashers

PBKDF2 = "django.contrib.auth.hashers.PBKDF2PasswordHasher"
MAIN = threading.main_thread()


class Slow(BasePasswordHasher):
    """Notes where it works, and waits for `go` there."""

    algorithm = "slow"
    version = 1
    worked: ClassVar[list[tuple[str, threading.Thread]]] = []
    began = threading.Semaphore(0)
    go = threading.Event()

    def _work(self, name):
        Slow.worked.append((name, threading.current_thread()))
        if threading.current_thread() is not MAIN:
            Slow.began.release()
            assert Slow.go.wait(30)

    def encode(self, password, salt):
        self._work("encode")
        return f"slow${self.version}${password}"

    def decode(self, encoded):
        algorithm, version, password = encoded.split("$")
        return {"algorithm": algorithm, "hash": password, "salt": "", "version": int(version)}

    def verify(self, password, encoded):
        self._work("verify")
        if password == "fail":
            raise ArithmeticError("the hasher failed")
        return password == self.decode(encoded)["hash"]

    def must_update(self, encoded):
        return self.decode(encoded)["version"] != self.version

    def harden_runtime(self, password, encoded):
        self._work("harden_runtime")


@cooperative
class Quick(Slow):
    algorithm = "quick"


class Calling(Slow):
    """Verifies by encoding, as Django's do."""

    algorithm = "calling"

    def verify(self, password, encoded):
        return self.encode(password, "") == encoded.replace("calling", "slow")


@pytest.fixture
def slow():
    Slow.worked.clear()
    Slow.began = threading.Semaphore(0)
    Slow.go = threading.Event()
    Slow.go.set()
    names = [f"{__name__}.{cls.__name__}" for cls in (Slow, Quick, Calling)]
    with override_settings(PASSWORD_HASHERS=names):
        yield Slow
    Slow.go.set()


def places(slow):
    """What worked, and whether it did in one of the executor's threads."""
    return [(name, thread.name.startswith("django_aio_hashers")) for name, thread in slow.worked]


async def test_synchronous_calls_in_the_bridge(slow):
    assert await run(make_password, "secret") == "slow$1$secret"
    assert await run(check_password, "secret", "slow$1$secret")
    assert not await run(check_password, "wrong", "slow$0$secret")
    assert places(slow) == [
        ("encode", True),
        ("verify", True),
        ("verify", True),
        ("harden_runtime", True),
    ]


async def test_acheck_password(slow):
    assert await acheck_password("secret", "slow$1$secret")
    user = User(password="slow$1$secret")
    assert await user.acheck_password("secret")
    assert {thread is MAIN for _, thread in slow.worked} == {False}
    assert places(slow)[-1] == ("verify", True)


async def test_a_hash_is_renewed_in_the_thread(db, slow):
    user = await User.objects.acreate(username="reader", password="slow$0$secret")
    assert await user.acheck_password("secret")
    assert places(slow) == [("verify", True), ("encode", True)]
    await user.arefresh_from_db()
    assert user.password == "slow$1$secret"


async def test_a_password_that_cannot_be_right_takes_as_long(db, slow):
    """Neither an unknown user nor an unusable password can be told by the clock."""
    assert not await run(check_password, "secret", "!")
    assert await aauthenticate(username="nobody", password="secret") is None
    assert places(slow) == [("encode", True), ("encode", True)]


async def test_acreate_user(db, slow):
    user = await User.objects.acreate_user("reader", password="secret")
    await User.objects.acreate_superuser("admin", password="secret")
    assert user.password == "slow$1$secret"
    assert places(slow) == [("encode", True), ("encode", True)]


async def test_the_login_page(db, slow):
    await User.objects.acreate_user("reader", password="secret")
    slow.worked.clear()

    pages = urlconf(path("login/", LoginView.as_view(template_name="form.html")))
    with override_settings(ROOT_URLCONF=pages):
        client = Client()
        client.cookies["csrftoken"] = "t" * 32
        response = await client.post("/login/", {"username": "reader", "password": "secret"})
    assert response.status == 302
    assert places(slow) == [("verify", True)]


async def test_a_hasher_that_calls_itself_hops_once(slow):
    with count_hops() as hops:
        assert await run(check_password, "secret", "calling$1$secret", None, "calling")
    assert len(hops.work) == 1
    assert places(slow) == [("encode", True)]


async def test_its_error_is_raised(slow):
    with pytest.raises(ArithmeticError, match="the hasher failed"):
        await acheck_password("fail", "slow$1$secret")


async def test_cheap_hashers_work_on_the_loop(slow):
    with count_hops() as hops:
        encoded = await run(make_password, "secret", None, "quick")
        assert await acheck_password("secret", "quick$1$secret", preferred="quick")
        assert encoded
        with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
            assert await acheck_password("secret", await run(make_password, "secret"))
    assert not hops
    assert {thread for _, thread in slow.worked} == {MAIN}


def test_outside_the_bridge_nothing_changes(slow):
    with count_hops() as hops:
        assert check_password("secret", make_password("secret"))
    assert not hops
    assert {thread for _, thread in slow.worked} == {MAIN}


async def test_no_more_threads_than_cores(slow):
    slow.go.clear()
    many = hashers.cores() * 3
    tasks = [asyncio.create_task(acheck_password("a", "slow$1$a")) for _ in range(many)]
    for _ in range(hashers.cores()):
        assert await asyncio.to_thread(slow.began.acquire, timeout=30)
    # The threads are all busy. What else is there waits, and the loop goes on.
    assert not slow.began.acquire(blocking=False)
    slow.go.set()
    assert all(await asyncio.gather(*tasks))
    assert len({thread for _, thread in slow.worked}) <= hashers.cores()


async def test_a_cancelled_login_leaves_the_queue(slow):
    slow.go.clear()
    cores = hashers.cores()
    running = [asyncio.create_task(acheck_password("a", "slow$1$a")) for _ in range(cores)]
    for _ in range(cores):
        assert await asyncio.to_thread(slow.began.acquire, timeout=30)
    queued = [asyncio.create_task(acheck_password("b", "slow$1$b")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in [*running, *queued]:
        task.cancel()
    # Cancelled although the threads work on.
    results = await asyncio.gather(*running, *queued, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}
    slow.go.set()
    assert await acheck_password("c", "slow$1$c")
    assert len(slow.worked) == cores + 1


async def test_attributes_replaced_by_tests_are_honoured(slow, monkeypatch):
    monkeypatch.setattr(Slow, "verify", lambda self, password, encoded: "replaced")
    assert await run(check_password, "x", "slow$1$y") == "replaced"
    hasher = get_hasher("slow")
    monkeypatch.setattr(hasher, "verify", lambda password, encoded: "on the object")
    assert await run(check_password, "x", "slow$1$y") == "on the object"


async def test_the_default_hasher():
    with override_settings(PASSWORD_HASHERS=[PBKDF2]):
        get_hasher().iterations = 10  # of this object alone
        with count_hops() as hops:
            encoded = await run(make_password, "secret")
            assert await acheck_password("secret", encoded)
            assert not await acheck_password("wrong", encoded)
        assert len(hops.work) == 3
    with override_settings(PASSWORD_HASHERS=[PBKDF2]):
        assert check_password("secret", encoded)


def test_the_executor_is_of_the_process():
    executors = []
    for _ in range(2):

        async def note():
            executors.append(hashers._threads.executor())

        asyncio.run(note())
    assert executors[0] is executors[1]
    assert isinstance(executors[0], ThreadPoolExecutor)
    assert executors[0]._max_workers == hashers.cores()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork()")
def test_a_forked_process_hashes():
    """As with a server that loads the application and then forks its workers."""
    code = """if True:
        import asyncio
        import os
        import django
        from django.conf import settings

        settings.configure(
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_aio"],
        )
        django.setup()
        from django.contrib.auth.hashers import get_hasher, make_password
        from django_aio import run

        get_hasher().iterations = 10
        asyncio.run(run(make_password, "secret"))
        child = os.fork()
        if not child:
            asyncio.run(asyncio.wait_for(run(make_password, "secret"), 20))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
