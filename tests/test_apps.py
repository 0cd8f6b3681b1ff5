"""Start-up: what is refused and how it is said, what `manage.py check` says, what is imported."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import django
import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import run_checks
from django.core.checks.registry import registry
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.dummy.base import DatabaseWrapper as DummyWrapper
from django.test import override_settings

from django_aio import checks, patching, series
from django_aio.apps import refuse_missing_driver, refuse_unsupported_django
from django_aio.checks import listed, threads
from django_aio.db.backends import registry as drivers
from django_aio.db.backends.registry import driver_of
from django_aio.db.backends.threaded import ThreadedDriver

ROOT = Path(__file__).parent.parent


def child(code):
    """Run code in a process of its own, where Django has no settings yet."""
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def ready():
    apps.get_app_config("django_aio").ready()


# What cannot work is refused.


@pytest.mark.parametrize("version", [(4, 2), (5, 1), (6, 2), (7, 0)])
def test_an_unsupported_django_is_refused(monkeypatch, version):
    monkeypatch.setattr(django, "VERSION", (*version, 1, "final", 0))
    monkeypatch.setattr(django, "__version__", "that.one")
    with pytest.raises(ImproperlyConfigured) as caught:
        ready()
    assert str(caught.value) == (
        "django-aio supports Django 5.2 to 6.1; this is Django that.one. Install one of those, or "
        "a django-aio made for this Django."
    )


@pytest.mark.parametrize("version", [(5, 2), (6, 0), (6, 1)])
def test_a_supported_django_is_accepted(monkeypatch, version):
    monkeypatch.setattr(django, "VERSION", (*version, 0, "alpha", 0))
    refuse_unsupported_django()


@pytest.fixture
def installed(monkeypatch):
    """Return a function that pretends that only these drivers are installed."""

    def pretend(*names):
        def find_spec(name, package=None):
            return object() if name in names else None

        fake = SimpleNamespace(util=SimpleNamespace(find_spec=find_spec))
        monkeypatch.setattr("django_aio.apps.importlib", fake)

    return pretend


@pytest.mark.parametrize(
    ("engine", "name", "driver", "extra"),
    [
        ("django.db.backends.sqlite3", "SQLite", "aiosqlite", "sqlite"),
        ("django.contrib.gis.db.backends.spatialite", "SpatiaLite", "aiosqlite", "sqlite"),
        ("django.db.backends.postgresql", "PostgreSQL", "psycopg", "postgresql"),
        ("django.contrib.gis.db.backends.postgis", "PostGIS", "psycopg", "postgresql"),
    ],
)
def test_a_missing_driver_is_refused(monkeypatch, installed, engine, name, driver, extra):
    monkeypatch.setattr(settings, "DATABASES", {"default": {}, "other": {"ENGINE": engine}})
    installed()
    with pytest.raises(ImproperlyConfigured) as caught:
        refuse_missing_driver()
    assert str(caught.value) == (
        f"DATABASES['other'] is {name}, which django-aio reaches through {driver}, and {driver} "
        f"is not installed. Install it with 'pip install django-aio[{extra}]'."
    )
    installed(driver)
    refuse_missing_driver()


@pytest.mark.parametrize(
    ("backend", "name", "driver", "extra"),
    [
        ("redis.RedisCache", "Redis", "redis", "redis"),
        ("memcached.PyMemcacheCache", "memcached", "pymemcache", "memcached"),
    ],
)
def test_a_missing_cache_client_is_refused(monkeypatch, installed, backend, name, driver, extra):
    entry = {"BACKEND": f"django.core.cache.backends.{backend}"}
    monkeypatch.setattr(settings, "DATABASES", {})
    monkeypatch.setattr(settings, "CACHES", {"other": entry})
    installed()
    with pytest.raises(ImproperlyConfigured) as caught:
        refuse_missing_driver()
    assert str(caught.value) == (
        f"CACHES['other'] is {name}, which django-aio reaches through {driver}, and {driver} "
        f"is not installed. Install it with 'pip install django-aio[{extra}]'."
    )
    installed(driver)
    refuse_missing_driver()


@pytest.mark.parametrize(
    ("engine", "driver"),
    [("django.db.backends.postgresql", "psycopg2"), ("django.db.backends.oracle", None)],
)
def test_an_engine_that_works_in_a_thread_is_accepted(monkeypatch, installed, engine, driver):
    monkeypatch.setattr(settings, "DATABASES", {"default": {"ENGINE": engine}})
    installed(driver)
    refuse_missing_driver()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("gevent", {"gevent.monkey": SimpleNamespace(is_anything_patched=lambda: True)}),
        ("eventlet", {"eventlet.patcher": SimpleNamespace(already_patched={"socket": True})}),
    ],
)
def test_a_process_monkey_patched_before_setup_is_refused(monkeypatch, name, module):
    for path, fake in module.items():
        monkeypatch.setitem(sys.modules, path, fake)
    with pytest.raises(ImproperlyConfigured, match=f"monkey-patched by {name}.* Remove {name}'s"):
        ready()


def test_a_wrong_setting_is_refused():
    with override_settings(AIO=["polls"]), pytest.raises(ImproperlyConfigured, match="AIO setting"):
        ready()


def test_ready_twice_changes_nothing():
    registered = registry.get_checks()
    ready()
    assert registry.get_checks() == registered
    assert series.conflicts() == []


def test_a_project_without_contenttypes_starts():
    done = child("""
        import django
        from django.conf import settings

        settings.configure(INSTALLED_APPS=["django_aio"])
        django.setup()
    """)
    assert done.returncode == 0, done.stderr


# Monkey patching before the import.

FAKES = """
import sys
from types import SimpleNamespace

sys.modules["gevent.monkey"] = SimpleNamespace(is_anything_patched=lambda: {gevent})
sys.modules["eventlet.patcher"] = SimpleNamespace(already_patched={eventlet})
"""


@pytest.mark.parametrize(
    ("library", "patch"),
    [
        ("gevent", FAKES.format(gevent=True, eventlet={})),
        ("eventlet", FAKES.format(gevent=False, eventlet={"socket": True})),
        ("gevent", "import gevent.monkey; gevent.monkey.patch_all()"),
        ("eventlet", "import eventlet; eventlet.monkey_patch()"),
    ],
    ids=["gevent", "eventlet", "real gevent", "real eventlet"],
)
def test_a_monkey_patched_process_cannot_import_the_bridge(library, patch):
    if "SimpleNamespace" not in patch and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    said = child(f"{patch}\nimport django_aio.bridge").stderr.splitlines()[-1]
    assert said.startswith("django_aio.bridge.BridgeError: This process is monkey-patched by")
    assert f"Remove {library}'s monkey patching" in said


@pytest.mark.parametrize(
    ("library", "use"),
    [
        (None, FAKES.format(gevent=False, eventlet={})),
        ("gevent", "import gevent.monkey"),
        ("eventlet", "import eventlet"),
    ],
)
def test_gevent_and_eventlet_that_have_patched_nothing_are_accepted(library, use):
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    done = child(f"{use}\nimport django_aio.bridge")
    assert done.returncode == 0, done.stderr


# Checks.


def warnings(**options):
    """What Django and we have to say before a command is run."""
    return run_checks(**options)


def test_checks_are_registered_and_find_nothing_here():
    own = {checks.check_series, checks.check_place, checks.check_drivers}
    expected = {*own, *listed.CHECKS, *threads.CHECKS}
    assert expected <= set(registry.get_checks())
    assert warnings(tags=["async_support"]) == []


@pytest.fixture
def patch(monkeypatch):
    """A patch that is the whole series."""
    patch = patching.Patch(
        patching.Verb.ADD, "django.db:connection", "django_aio.bridge:run", "a connection"
    )
    monkeypatch.setattr(series, "SERIES", (patch,))
    return patch


def test_a_conflict_is_an_error(patch):
    patch.apply()
    (message,) = warnings(tags=["async_support"])
    assert message.id == "django_aio.E001"
    assert message.is_serious()
    assert message.obj == "django.db:connection"
    assert message.msg == f"The patch 'a connection' could not be applied: {patch.reason}."
    assert "python -m django_aio series" in message.hint


def test_who_was_there_first_is_named_in_a_warning(patch):
    patch.apply()
    patch.stranger = "tracker.wrap"
    (message,) = warnings(tags=["async_support"])
    assert message.id == "django_aio.W005"
    assert not message.is_serious()
    assert "'a connection' was left out" in message.msg
    assert "as long as tracker.wrap sits there" in message.hint


def test_a_drifted_patch_is_a_warning(patch):
    patch.found = "000000000000"
    (message,) = warnings(tags=["async_support"])
    assert message.id == "django_aio.W001"
    assert not message.is_serious()
    assert message.obj == "django.db:connection"
    assert f"that of Django {django.__version__}" in message.msg
    assert "newer django-aio" in message.hint


@pytest.mark.parametrize(
    ("vendor", "hint"),
    [
        ("postgresql", "Install psycopg 3 with 'pip install django-aio[postgresql]'."),
        ("oracle", "Everything works; each statement costs a hand-over to a thread."),
    ],
)
def test_a_database_without_a_cooperative_driver_is_a_warning(monkeypatch, vendor, hint):
    database = SimpleNamespace(vendor=vendor, display_name="Name")
    monkeypatch.setattr(checks, "connections", {"other": database})
    monkeypatch.setattr(checks, "driver_of", lambda engine: ThreadedDriver())
    (message,) = checks.check_drivers(None)
    assert message.id == "django_aio.W002"
    assert not message.is_serious()
    assert "database 'other' (Name) has no cooperative driver" in message.msg
    assert message.hint == hint


def test_no_database_is_no_warning(monkeypatch):
    monkeypatch.setattr(checks, "connections", {"default": DummyWrapper({})})
    assert checks.check_drivers(None) == []


def test_who_comes_before_us_is_named():
    done = child(
        """
        from django.conf import settings
        apps = ["django.contrib.contenttypes", "django.contrib.auth"]
        settings.configure(SILENCED_SYSTEM_CHECKS=["fields.W342"])
        settings.INSTALLED_APPS = [apps[0], "django_aio", apps[1]]
        import django
        django.setup()
        from django.core.management import call_command
        call_command("check")
        """
    )
    assert done.returncode == 0
    assert "(django_aio.I010) 'django_aio' is not the first of INSTALLED_APPS" in done.stderr
    assert ": django.contrib.contenttypes is loaded before it." in done.stderr


def test_nobody_comes_before_us():
    assert checks.check_place(None) == []


def test_there_is_no_place_in_other_apps_of_a_test():
    with override_settings(INSTALLED_APPS=["django.contrib.contenttypes"]):
        assert checks.check_place(None) == []


def test_psycopg_2_is_driven_in_a_thread(monkeypatch):
    pytest.importorskip("psycopg")
    from django.db.backends.postgresql import psycopg_any
    from django.db.backends.postgresql.base import DatabaseWrapper

    monkeypatch.setattr(psycopg_any, "is_psycopg3", False)
    monkeypatch.setattr(drivers, "_drivers", {})
    assert isinstance(driver_of(DatabaseWrapper), ThreadedDriver)


# Imports.


@pytest.mark.parametrize(
    "module",
    ["django_aio", "django_aio.bridge", "django_aio.policy", "django_aio.series"],
)
def test_importing_imports_neither_settings_nor_drivers(module):
    done = child(f"""
        import sys
        import {module}
        from django.conf import settings

        assert not settings.configured
        unwanted = ("psycopg", "psycopg_pool", "aiosqlite", "sqlite3", "django.db.backends")
        print([name for name in sys.modules if name.startswith(unwanted)])
    """)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "module",
    ["db.transaction", "db.models", "db.chains", "core.handlers.base", "apps", "checks"],
)
def test_every_module_can_be_imported_before_settings_are_configured(module):
    done = child(f"import django_aio.{module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "use",
    [
        "from django_aio import series; series.apply_series()",
        "from django_aio.policy import is_cooperative; is_cooperative(print)",
        "from django_aio.apps import refuse_missing_driver; refuse_missing_driver()",
    ],
)
def test_using_the_series_before_settings_are_configured_says_so(use):
    done = child(f"""
        from django.core.exceptions import ImproperlyConfigured

        try:
            {use}
        except ImproperlyConfigured as error:
            print(error)
    """)
    assert "settings are not configured" in done.stdout
    assert "DJANGO_SETTINGS_MODULE or call settings.configure()" in done.stdout
    assert done.stderr == ""


def test_the_series_applied_too_early_can_be_applied_again():
    done = child("""
        import django
        from django.conf import settings
        from django.core.exceptions import ImproperlyConfigured
        from django_aio import series
        from django_aio.patching import Status

        try:
            series.apply_series()
        except ImproperlyConfigured:
            installed = ["django.contrib.contenttypes", "django.contrib.auth", "django_aio"]
            settings.configure(INSTALLED_APPS=installed)
            django.setup()
            import django.test, sys
            assert not series.conflicts() and not series.drifted()
            print({
                patch.status.value
                for patch in series.SERIES
                if not patch.needs and (not patch.on_import or patch.module in sys.modules)
            })
    """)
    assert (done.stdout, done.stderr) == ("{'applied'}\n", "")


@pytest.mark.parametrize("module", ["apps", "models"])
def test_modules_of_apps_import_the_new_names(tmp_path, module):
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "apps.py").write_text("")
    (package / f"{module}.py").write_text(
        textwrap.dedent("""
        from django.core.signals import shutdown, startup
        from django.db.transaction import aon_commit
        from django.forms import aall_valid
        from django.shortcuts import aredirect, arender, astream
        from django.template.loader import arender_to_string
        from django.urls import asgi_view, websocket
    """)
    )
    done = child(f"""
        import sys
        import django
        from django.conf import settings

        sys.path.insert(0, {str(tmp_path)!r})
        settings.configure(INSTALLED_APPS=["django_aio", "shop"])
        django.setup()
        from django.core.management import call_command
        call_command("check")
    """)
    assert "no issues" in done.stdout


def test_the_admin_need_not_be_installed_to_be_imported():
    """REST framework does that, by way of admindocs."""
    done = child("""
        import django
        from django.conf import settings

        apps = ["django.contrib.contenttypes", "django.contrib.auth"]
        settings.configure(INSTALLED_APPS=["django_aio", *apps])
        django.setup()
        import django.contrib.admindocs.views
        from django.contrib.admin import ModelAdmin, options
        from django_aio import series
        from django_aio.patching import Status
        waiting = [patch.target for patch in series.SERIES if patch.status is Status.PENDING]
        print([target for target in waiting if "admin.options" in target])
    """)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_an_unsupported_django_is_refused_before_anything_is_changed():
    done = child("""
        import django
        from django.conf import settings
        from django.core.exceptions import ImproperlyConfigured

        django.VERSION = (4, 2, 0, "final", 0)
        settings.configure(INSTALLED_APPS=["django_aio"])
        try:
            django.setup()
        except ImproperlyConfigured as error:
            import django.urls

            print(str(error)[:39], hasattr(django.urls, "asgi_view"))
    """)
    assert (done.stdout, done.stderr) == ("django-aio supports Django 5.2 to 6.1;  False\n", "")
