"""The whole series on the installed Django: everything applies, nothing has drifted."""

import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import django
import pytest
from django.core.management import call_command

from django_aio import conf, patching, series
from django_aio.patching import Status, Verb, resolve

ROOT = Path(__file__).parent.parent
SUPPORTED = {"5.2", "6.0", "6.1"}
# Those of apps of other packages wait for these: tests/compat/ has them.
OTHERS = [patch for patch in series.SERIES if patch.app and not patch.app.startswith("django.")]
HERE = [patch for patch in series.SERIES if patch not in OTHERS]


def child(*arguments):
    """Run Python on a bare Django, where nothing but the series has been applied."""
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def drivers():
    """Skip the tests of the whole series where a driver that it patches is not installed."""
    pytest.importorskip("aiosqlite")
    pytest.importorskip("psycopg")


@pytest.fixture(scope="module")
def applied(drivers):
    """The fingerprints found when everything is applied: {target: fingerprint or None}."""
    code = """if True:
        import json
        import django
        from django.conf import settings
        from django_aio import series

        settings.configure(
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_aio"]
        )
        django.setup()
        series.apply_all()
        print(json.dumps({patch.target: patch.found for patch in series.SERIES}))
    """
    done = child("-c", code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


OURS = "django_aio."


def test_the_command_reports_every_patch_as_applied(drivers):
    done = child("-m", "django_aio", "series")
    assert (done.returncode, done.stderr) == (0, "")
    title, *lines, summary = done.stdout.splitlines()
    assert title.startswith("django-aio ")
    lines = [line for line in lines if line]
    areas = [line for line in lines if not line.startswith(" ")]
    assert areas == [area.capitalize() for area in series.AREAS]
    written = [line for line in lines if line.startswith("    ")]
    expected = {False: ("applied", ""), True: ("pending", " ({} not in INSTALLED_APPS)")}
    of = [(patch, *expected[patch in OTHERS]) for patch in series.SERIES]
    paths = [
        (state, patch.verb.value, patch.target.split(":")[1], f"[{patch.by.removeprefix(OURS)}]")
        for patch, state, _ in of
    ]
    assert [tuple(line.split()) for line in written[::2]] == paths
    reasons = [patch.why + reason.format(patch.app) for patch, _, reason in of]
    assert [line.strip() for line in written[1::2]] == reasons
    modules = {line.strip() for line in lines if line.startswith("  ") and line[2] != " "}
    assert modules == {patch.module for patch in series.SERIES}
    assert summary == f"{len(HERE)} of {len(of)} patches applied, 0 need attention"


def test_the_command_of_a_project_says_the_same():
    said = io.StringIO()
    call_command("aio", "series", stdout=said)
    assert (
        "  django.db.transaction\n    applied   replace  Atomic.__enter__  [db.atomic:enter]\n"
        in said.getvalue()
    )
    assert said.getvalue().endswith(" 0 need attention\n")


def test_a_django_to_come_can_be_looked_at():
    code = """if True:
        import sys

        import django
        from django_aio.__main__ import main

        django.VERSION = (7, 0, 0, "alpha", 0)
        print(main(sys.argv[1:]))
    """
    refused = child("-c", code, "series")
    assert "ImproperlyConfigured: django-aio supports Django 5.2 to 6.1" in refused.stderr
    done = child("-c", code, "series", "--any-django")
    assert "Atomic.__enter__" in done.stdout


def test_the_command_fails_where_a_patch_needs_attention(monkeypatch, capsys):
    conflict = patching.Patch(Verb.ADD, "django.db:connection", "django_aio.bridge:run", "taken")
    pending = patching.Patch(
        Verb.ADD, "django.db:new", "django_aio.bridge:run", "later", needs=("no_such",)
    )
    monkeypatch.setattr(series, "SERIES", (conflict, pending))
    monkeypatch.setattr(series, "AREAS", {"some": (conflict, pending)})
    monkeypatch.setattr(series, "apply_all", lambda: None)
    conflict.apply()
    pending.apply()
    with pytest.raises(SystemExit) as exit:
        call_command("aio", "series")
    assert exit.value.code == 1
    said = capsys.readouterr().out.splitlines()
    assert said[2:5] == ["Some", "  django.db", "    conflict  add      connection  [bridge:run]"]
    assert "taken (django.db:connection exists already" in said[5]
    assert said[6].startswith("    pending ")
    assert said[7].strip() == "later (no_such not installed)"
    assert said[9] == "0 of 2 patches applied, 1 need attention"


def test_this_process_has_applied_all_but_unused_backends():
    states = {
        patch.status
        for patch in series.SERIES
        if not patch.backend
        and (not patch.on_import or patch.module in sys.modules)
        and not (patch in series.SPEEDUPS and not conf.speedups())
    }
    assert states == {Status.APPLIED}
    assert series.conflicts() == series.drifted() == []


@pytest.mark.parametrize("patch", HERE, ids=lambda patch: patch.target)
def test_names_resolve(drivers, patch):
    if patch.verb is Verb.ADD:
        module, _, path = patch.target.partition(":")
        owner, _, _ = path.rpartition(".")
        assert resolve(f"{module}:{owner}") if owner else importlib.import_module(module)
    else:
        resolve(patch.target)
    resolve(patch.by)


def test_replacements_are_documented(drivers):
    functions = {patch.by: resolve(patch.by) for patch in series.SERIES}
    assert not {by for by, found in functions.items() if callable(found) and not found.__doc__}


def test_no_target_is_patched_twice():
    targets = [patch.target for patch in series.SERIES]
    assert len(set(targets)) == len(targets)


def test_applying_again_changes_nothing():
    def present():
        """What is at each target now."""
        return [resolve(patch.target) for patch in HERE if not patch.backend]

    before = present()
    series.apply_series()
    # Class methods are bound anew each time, and are equal.
    assert all(one == two for one, two in zip(before, present(), strict=True))


def test_every_replaced_function_has_a_fingerprint_for_every_supported_django(applied):
    known = patching.fingerprints()
    with_source = {target for target, found in applied.items() if found is not None}
    assert with_source
    expected = {patch.target: _supporting(patch) for patch in series.SERIES}
    wrong = {target for target in with_source if set(known.get(target, ())) != expected[target]}
    assert wrong == set()


def _supporting(patch):
    """The Django series that have the target of a patch."""
    return {each for each in SUPPORTED if tuple(map(int, each.split("."))) >= patch.since}


def test_fingerprints_are_those_of_the_installed_django(applied):
    known = patching.fingerprints()
    installed = patching.series_of_django()
    found = {target: digits for target, digits in applied.items() if digits is not None}
    assert {target: known[target][installed] for target in found} == found


def test_no_fingerprint_is_stale(applied):
    with_source = {target for target, found in applied.items() if found is not None}
    newer = {patch.target for patch in set(series._SERIES) - set(series.SERIES)}
    assert set(patching.fingerprints()) - with_source - newer == set()


def test_patches_for_a_newer_django_are_left_out():
    assert all(patch.since <= django.VERSION for patch in series.SERIES)
    left_out = set(series._SERIES) - set(series.SERIES)
    assert all(patch.status is Status.PENDING for patch in left_out)


def test_backends_are_patched_when_they_are_used():
    """A project without PostgreSQL never imports psycopg."""
    code = """if True:
        import asyncio
        import sys
        import django
        from django.conf import settings

        settings.configure(
            INSTALLED_APPS=["django.contrib.contenttypes", "django_aio"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        )
        django.setup()
        from django.db import connection
        from django_aio import run, series
        from django_aio.patching import Status

        def applied():
            return {p.needs for p in series.SERIES if p.needs and p.status is Status.APPLIED}

        connection.ensure_connection()
        assert applied() == set(), applied()
        asyncio.run(run(lambda: connection.ensure_connection()))
        assert applied() == {("aiosqlite",)}, applied()
        assert not [name for name in sys.modules if name.startswith("psycopg")]
    """
    pytest.importorskip("aiosqlite")
    done = child("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_speedups_can_be_left_out():
    done = child(
        "-c",
        """if True:
        import django
        from django.conf import settings
        from django_aio import series

        apps = ["django.contrib.contenttypes", "django.contrib.auth", "django_aio"]
        settings.configure(INSTALLED_APPS=apps, AIO={"SPEEDUPS": False})
        django.setup()
        series.apply_all()
        import sys
        from django_aio.patching import Status

        applied = {patch for patch in series.SERIES if patch.status is Status.APPLIED}
        print(len(applied & set(series.SPEEDUPS)), len(applied) > 200)
        print({patch.reason for patch in series.SPEEDUPS})
        rooms = [name for name in sys.modules if name.startswith("django_aio.speedups")]
        print(sorted(rooms))
    """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "0 True",
        "{\"left out by AIO['SPEEDUPS']\"}",
        "[]",
    ]


# Where the patches of a module are tested that has no test module of its own name.
TESTED_IN = {
    "awaiting": "contrib/auth/test_auth.py",
    "compat.channels": "test_channels.py",
    "compat.debug_toolbar": "compat/with_debug_toolbar.py",
    "compat.silk": "compat/with_silk.py",
    "contrib.admin.sites": "contrib/admin/test_options.py",
    "contrib.sessions.backends.base": "contrib/sessions/test_backends.py",
    "core.handlers.exception": "core/handlers/test_base.py",
    "core.management.commands.check": "test_checks.py",
    "core.signals": "protocols/test_lifespan.py",
    "db.backends.postgresql.patches": "db/backends/test_postgresql.py",
    "db.backends.utils": "db/test_unsafe.py",
    "db.connecting": "db/test_states.py",
    "db.handler": "db/test_chains.py",
    "db.state": "db/test_chains.py",
    "db.transaction": "db/test_on_commit.py",
    "forms.formsets": "forms/test_models.py",
    "forms.subclasses": "forms/test_policy.py",
    "middleware": "views/test_long.py",
    "protocols.routes": "protocols/test_patterns.py",
    "template.backends.django": "template/test_streams.py",
    "template.base": "template/test_awaiting.py",
    "template.defaulttags": "template/test_awaiting.py",
    "template.loader": "template/test_responses.py",
    "template.response": "template/test_responses.py",
    "threads": "contrib/sessions/test_backends.py",
    "urls": "protocols/test_patterns.py",
    "utils.asyncio": "core/handlers/test_hops.py",
    "utils.decorators": "core/cache/test_middleware.py",
}


def test_a_patch_leads_to_its_tests():
    """By the name of the module that it comes from, or by the table above."""
    tests = Path(__file__).parent
    missing = set()
    for patch in series._SERIES:
        module = patch.by.partition(":")[0].removeprefix(OURS)
        *folders, name = module.split(".")
        folder = tests.joinpath(*folders)
        mirrored = [folder / f"test_{name}.py", folder / name / f"test_{name}.py"]
        if patch.by.startswith(OURS) and not any(map(Path.exists, mirrored)):
            missing.add(module)
    assert missing == TESTED_IN.keys()
    assert all((tests / path).exists() for path in TESTED_IN.values())
