"""The run of Django's own suite: that it finds what it looks for, on a small suite of our own."""

import json
import textwrap

import pytest
from django.conf import settings
from upstream import exclusions, page, plan, sdist
from upstream.summary import Run, labels_of

RUNTESTS = """
ALWAYS_INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]

def get_test_modules(gis_enabled):
    return ["small"]

def get_runner(settings):
    from django.test.runner import DiscoverRunner
    return DiscoverRunner

def django_tests(test_labels, verbosity, interactive, failfast, pdb):
    import django
    from django.conf import settings
    settings.INSTALLED_APPS = ALWAYS_INSTALLED_APPS
    django.setup()
    runner = get_runner(settings)(verbosity=0, interactive=False, failfast=failfast, pdb=pdb)
    return runner.run_tests(test_labels)
"""
SETTINGS = """
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3"},
}
SECRET_KEY = "small"
"""
SMALL = '''
import os, sys, threading, unittest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase

def from_thread(asked_by):
    """A query in a thread that the module `asked_by` asks for."""
    names = {"sync_to_async": sync_to_async, "__name__": asked_by}
    exec("def ask(func): return sync_to_async(func)", names)
    async def call():
        return await names["ask"](User.objects.count)()
    return async_to_sync(call)()

class Tests(TestCase):
    def test_query(self):
        self.assertEqual(User.objects.count(), 0)

    def test_wrong(self):
        self.assertEqual(User.objects.count(), 1)

    @unittest.expectedFailure
    def test_expected(self):
        self.fail()

    def test_subtests(self):
        for number in range(3):
            with self.subTest(number):
                self.assertNotEqual(number, 1)

    @unittest.skip("no reason")
    def test_skipped(self):
        pass

    def test_blocks(self):
        if connection.vendor == "postgresql":
            import psycopg
            with psycopg.connect(dbname="postgres", **PARAMETERS):
                pass
        else:
            connection.ensure_connection()
            with connection.cursor() as cursor:
                inner = cursor.cursor
                if type(inner).__name__ == "ThreadCursor":
                    inner = inner._cursor
                connection.connection.cursor(type(inner)).execute("SELECT 1")

    def test_thread_of_django(self):
        from_thread("django.small")

    def test_thread_of_its_own(self):
        from_thread("small.tests")

class Broken(TestCase):
    @classmethod
    def setUpTestData(cls):
        raise ValueError("broken")

    def test_never(self):
        pass

class Dies(unittest.TestCase):
    def test_death(self):
        if os.environ.get("SMALL_DEATH"):
            os._exit(1)
'''
PASSING = {
    "small.tests.Tests.test_query": "passed",
    "small.tests.Tests.test_wrong": "failed",
    "small.tests.Tests.test_expected": "expected failure",
    "small.tests.Tests.test_subtests": "failed",
    "small.tests.Tests.test_skipped": "skipped",
    "small.tests.Tests.test_blocks": "passed",
    "small.tests.Tests.test_thread_of_django": "passed",
    "small.tests.Tests.test_thread_of_its_own": "passed",
    "setUpClass (small.tests.Broken)": "error",
    "small.tests.Dies.test_death": "passed",
}
FAULTS = {
    "small.tests.Tests.test_blocks": "failed",
    "small.tests.Tests.test_thread_of_django": "failed",
}


@pytest.fixture
def small(tmp_path):
    """Run the small suite in a mode; returns what became of it."""
    suite = tmp_path / "tests"
    (suite / "small").mkdir(parents=True)
    (suite / "small" / "__init__.py").touch()
    server = settings.DATABASES["default"]
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    parameters = {name: server.get(key) for name, key in names.items() if server.get(key)}
    (suite / "small" / "tests.py").write_text(f"PARAMETERS = {parameters}\n{SMALL}")
    (suite / "runtests.py").write_text(textwrap.dedent(RUNTESTS))
    (suite / "test_sqlite.py").write_text(SETTINGS)
    (tmp_path / "results").mkdir()

    def run(mode, labels=("small",)):
        engine = plan.ENGINES[settings.TEST_DB]
        results = tmp_path / "results" / "some.jsonl"
        job = plan.Job(mode, engine, 0, list(labels), [], str(suite), str(results), ["small"])
        plan.run([[job]], [], quiet=True)
        found = Run()
        found.read(results)
        return found

    return run


@pytest.mark.parametrize("mode", ["stock", "plain"])
def test_outcomes(small, mode):
    assert small(mode).outcomes == PASSING


def test_native_mode_finds_faulty_waits(small):
    run = small("native")
    assert run.outcomes == PASSING | FAULTS
    assert "blocks the loop" in run.details["small.tests.Tests.test_blocks"]
    asked = run.details["small.tests.Tests.test_thread_of_django"]
    assert "in a thread that django.small asked for" in asked
    assert run.waits["cooperative"] > 0
    assert not run.faults


def test_a_process_that_dies_names_its_last_test(small, monkeypatch):
    monkeypatch.setenv("SMALL_DEATH", "1")
    run = small("plain")
    assert run.outcomes["small.tests.Dies.test_death"] == "died"
    assert "small.tests.Dies.test_death" in run.failures()


def test_counts():
    run = Run(dict.fromkeys("abc", "passed") | {"d": "skipped", "e": "died", "f": "error"})
    assert run.counts() == {"run": 5, "passed": 3, "failed": 2, "skipped": 1}


def test_labels_to_run_again():
    failed = ["a.tests.T.test", "setUpClass (a.tests.T)", "unittest.loader._FailedTest.b"]
    assert labels_of(failed) == ["a.tests.T", "a.tests.T.test", "b"]


def test_the_lanes_are_balanced():
    seconds = {"a": 8.0, "b": 5.0, "c": 4.0, "d": 1.0}
    assert plan.divide(seconds, seconds, [0.0, 0.0]) == [["a", "d"], ["b", "c"]]
    assert plan.divide(seconds, seconds, [20.0, 0.0]) == [[], ["a", "b", "c", "d"]]


def test_exclusions_are_few_and_give_a_reason():
    native, plain = exclusions.load("native"), exclusions.load("plain")
    assert len(native) < 15
    assert len(plain) <= 1
    assert all(len(entry.reason) > 20 for entry in [*native.values(), *plain.values()])


def test_the_page_is_the_one_that_the_figures_give():
    assert page.PAGE.read_text() == page.text(json.loads(page.FIGURES.read_text()))


def test_the_figures_show_nothing_that_only_fails_here():
    figures = json.loads(page.FIGURES.read_text())
    assert [figure["bad"] for figure in figures if figure["mode"] != "stock"] != []
    assert not any(figure["bad"] for figure in figures if figure["mode"] != "stock")
    assert not any(figure["waits"].get("faulty") for figure in figures)


def test_the_suite_is_kept_out_of_the_repository():
    ignored = (sdist.ROOT / ".gitignore").read_text().split()
    assert f"{sdist.CACHE.parent.name}/" in ignored
