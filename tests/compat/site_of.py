"""What every script of this folder stands on: settings, a database of its own, a client.

A script is a whole site in one file. It configures Django, defines what the site has, and checks
what a visitor sees:

    import site_of

    site_of.configure(INSTALLED_APPS=["rest_framework"], ...)
    ...
    site_of.run(list_of_books, two_at_once)

and prints "ok" when every check has passed. From the environment: TEST_DB, sqlite (as it is) or
postgresql; POOL=1, a pool of four connections; STOCK=1, the same site without django-aio, on which
each check must pass as well, unless it is marked with `@site_of.needs_us`.
"""

import asyncio
import os
import sys
import tempfile

import django
from django.conf import settings

STOCK = os.environ.get("STOCK") == "1"

_files = tempfile.TemporaryDirectory()

APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]


def database():
    """The entry of DATABASES that TEST_DB asks for."""
    if os.environ.get("TEST_DB") == "postgresql":
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": f"django_aio_compat_{os.getpid()}",
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "PORT": os.environ.get("PGPORT", "5432"),
            "USER": os.environ.get("PGUSER", "postgres"),
            "OPTIONS": {"pool": {"min_size": 1, "max_size": 4}} if os.environ.get("POOL") else {},
        }
    name = f"{_files.name}/db.sqlite3"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        "TEST": {"NAME": name},
    }


def configure(*, INSTALLED_APPS=(), MIDDLEWARE=MIDDLEWARE, **more):
    """Set Django up. INSTALLED_APPS come above Django's own; MIDDLEWARE replaces the default one.

    The URLs are those of the calling script (`urlpatterns`), unless ROOT_URLCONF says otherwise.
    """
    ours = [] if STOCK else ["django_aio"]
    settings.configure(
        **{
            "SECRET_KEY": "only for the tests",
            "ALLOWED_HOSTS": ["*"],
            "DATABASES": {"default": database()},
            "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
            "INSTALLED_APPS": [*ours, *INSTALLED_APPS, *APPS],
            "MIDDLEWARE": MIDDLEWARE,
            "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
            "ROOT_URLCONF": "__main__",
            "STATIC_URL": "/static/",
            "TEMPLATES": TEMPLATES,
            "USE_TZ": True,
            **more,
        }
    )
    django.setup()


def needs_us(check):
    """A check that stock Django cannot pass. It is left out under STOCK=1."""
    check.needs_us = True
    return check


def run(*checks):
    """Run each check, which is an `async def`, on a loop of its own, over one database."""
    from django.core.management import call_command
    from django.db import connection
    from django.test.utils import setup_test_environment

    setup_test_environment()
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        for check in checks:
            if STOCK and getattr(check, "needs_us", False):
                continue
            call_command("flush", verbosity=0, interactive=False)
            connection.close()
            print(check.__name__, flush=True)
            asyncio.run(check())
    finally:
        if STOCK:
            _end_sessions(connection)  # stock Django leaves those of its threads; we leave none
        connection.creation.destroy_test_db(name, verbosity=0)
    print("ok")
    sys.stdout.flush()


def _end_sessions(connection):
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
