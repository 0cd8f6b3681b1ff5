"""Asynchronous tests by pytest-django with pytest-asyncio and anyio, in a project of their own."""

import asyncio
import os
import pathlib
import sys
import tempfile

import site_of

site_of.configure()

SETTINGS = """
import os
import site_of
import django.core.asgi

NAME = os.environ["COMPAT_DB"]
DATABASES = {"default": site_of.database() | {"NAME": NAME}}
if "TEST" in DATABASES["default"]:
    DATABASES["default"]["TEST"] = {"NAME": NAME}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [*([] if site_of.STOCK else ["django_aio"]), *site_of.APPS]
MIDDLEWARE, TEMPLATES = site_of.MIDDLEWARE, site_of.TEMPLATES
SECRET_KEY, ROOT_URLCONF, STATIC_URL, USE_TZ = "tests only", "urls", "/static/", True
GREETING = "hello"
"""

# The threads of stock Django leave sessions, which would keep the database from being dropped.
CONFTEST = """
import pytest
import site_of
from django.db import connection


@pytest.fixture(scope="session", autouse=True)
def sessions(django_db_setup, django_db_blocker):
    yield
    if site_of.STOCK:
        with django_db_blocker.unblock():
            site_of._end_sessions(connection)
"""

URLS = """
from django.conf import settings
from django.http import JsonResponse
from django.urls import path
from shop.models import Author


def sync(request):
    return JsonResponse({"names": [author.name for author in Author.objects.all()]})


async def coroutine(request):
    user = await request.auser()
    names = [author.name async for author in Author.objects.all()]
    return JsonResponse({"names": names, "user": user.username, "said": settings.GREETING})


urlpatterns = [path("sync/", sync), path("coroutine/", coroutine)]
"""

# What stock Django can do as well: there an asynchronous test is not in the transaction of `db`.
BOTH = """
import asyncio, json, os, urllib.request
import pytest
from django.contrib.auth.models import User
from django.db import connection
from shop.models import Author


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.asyncio
@pytest.mark.parametrize("time", [1, 2])
async def test_flushed(transactional_db, time):
    await Author.objects.acreate(name="Lem")
    counts = await asyncio.gather(*(Author.objects.acount() for _ in range(5)))
    assert counts == [1] * 5


@pytest.mark.anyio
async def test_client_and_settings(transactional_db, async_client, settings):
    settings.GREETING = "good bye"
    await Author.objects.acreate(name="Lem")
    await async_client.aforce_login(await User.objects.acreate_user("ada"))
    answers = await asyncio.gather(*(async_client.get("/coroutine/") for _ in range(4)))
    expected = {"names": ["Lem"], "user": "ada", "said": "good bye"}
    assert [answer.json() for answer in answers] == [expected] * 4
    assert (await async_client.get("/sync/")).json() == {"names": ["Lem"]}


@pytest.mark.asyncio
async def test_settings_are_back(transactional_db, async_client):
    assert (await async_client.get("/coroutine/")).json()["said"] == "hello"


@pytest.mark.anyio
async def test_live_server(live_server):
    await Author.objects.acreate(name="Lem")
    for url in ("/sync/", "/coroutine/"):
        answer = await asyncio.to_thread(urllib.request.urlopen, live_server.url + url)
        with answer:
            assert json.load(answer)["names"] == ["Lem"]


@pytest.mark.asyncio
async def test_no_database():
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        await Author.objects.acount()


def test_reused(transactional_db):
    with connection.cursor() as cursor:
        if os.environ["COMPAT_RUN"] == "1":
            cursor.execute("CREATE TABLE kept (number integer)")
        cursor.execute("SELECT count(*) FROM kept")


@pytest.mark.asyncio
async def test_fails(transactional_db):
    await Author.objects.acreate(name="Lem")
    assert await Author.objects.acount() == 2
"""

OURS = """
import asyncio
import pytest
from django.db import transaction
from shop.models import Author


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def lem(db):
    return Author.objects.create(name="Lem")


@pytest.mark.asyncio
@pytest.mark.parametrize("time", [1, 2])
async def test_rolled_back(lem, async_client, time):
    await Author.objects.acreate(name="Ada")
    assert await asyncio.gather(Author.objects.acount(), Author.objects.acount()) == [2, 2]
    for url in ("/sync/", "/coroutine/"):
        assert (await async_client.get(url)).json()["names"] == ["Lem", "Ada"]
    with pytest.raises(ZeroDivisionError):
        async with transaction.atomic():
            await Author.objects.all().adelete()
            1 / 0
    assert await Author.objects.acount() == 2


@pytest.mark.anyio
@pytest.mark.django_db
async def test_mark():
    assert not await Author.objects.aexists()
    await Author.objects.acreate(name="Ada")


@pytest.mark.anyio
@pytest.mark.parametrize("database", ["db", "transactional_db"])
async def test_queries(request, database, django_assert_num_queries, django_assert_max_num_queries):
    with django_assert_num_queries(2) as captured:
        await Author.objects.acreate(name="Ada")
        await Author.objects.acount()
    assert "INSERT" in captured[0]["sql"]
    with django_assert_num_queries(3):
        await asyncio.gather(*(Author.objects.acount() for _ in range(3)))
    with pytest.raises(pytest.fail.Exception), django_assert_max_num_queries(1):
        await Author.objects.acount()
        await Author.objects.acount()


@pytest.fixture(autouse=True)
def _database(request):
    if "database" in request.fixturenames:
        request.getfixturevalue(request.getfixturevalue("database"))


@pytest.mark.asyncio
async def test_on_commit(db, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as callbacks:
        async with transaction.atomic():
            await transaction.aon_commit(lambda: None)
    assert len(callbacks) == 1
"""


async def run_pytest(project, number, *options):
    files = {"settings.py": SETTINGS, "urls.py": URLS, "test_both.py": BOTH}
    files["conftest.py"] = CONFTEST
    if not site_of.STOCK:
        files["test_ours.py"] = OURS
    for name, text in files.items():
        (project / name).write_text(text)
    here = pathlib.Path(__file__).parent
    path = os.pathsep.join([str(project), str(here), os.environ.get("PYTHONPATH", "")])
    sqlite = os.environ.get("TEST_DB") != "postgresql"
    name = f"{project}/db.sqlite3" if sqlite else f"django_aio_compat_{os.getpid()}_pytest"
    own = {"PYTHONPATH": path, "COMPAT_DB": name, "COMPAT_RUN": str(number)}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "pytest", "--ds=settings"]
    process = await asyncio.create_subprocess_exec(
        *(*command, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options),
        cwd=project,
        env={**os.environ, **own},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def tests_of_a_project():
    """What should pass does, what should not does not, and --reuse-db keeps the database."""
    with tempfile.TemporaryDirectory() as folder:
        project = pathlib.Path(folder)
        passing = ("--deselect", "test_both.py::test_fails")
        for number, options in ((1, ["--reuse-db"]), (2, ["--reuse-db"]), (1, ["--create-db"])):
            status, output = await run_pytest(project, number, *options, *passing)
            assert status == 0, output
            assert f"\n{7 if site_of.STOCK else 13} passed" in output, output
            assert "warning" not in output.lower(), output
        status, output = await run_pytest(project, 1, "--create-db", "-k", "test_fails")
        assert status == 1, output
        assert "assert 1 == 2" in output, output


site_of.run(tests_of_a_project)
