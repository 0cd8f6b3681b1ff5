"""Settings of the benchmark site: what `startproject` gives, without the admin.

Everything is the same for every contender but the two things that are compared:

- `BENCH_AIO=1` adds "django_aio" to INSTALLED_APPS, and nothing else;
- `BENCH_VIEWS=sync` serves the synchronous spelling of the same pages.

The database is `BENCH_DB` on the PostgreSQL server of the PG* environment variables, or, with
`BENCH_ENGINE=sqlite`, the file of that name.
"""

from __future__ import annotations

import os
from typing import Any

ASYNCHRONOUS_VIEWS = os.environ.get("BENCH_VIEWS", "async") == "async"

SECRET_KEY = "for benchmarks only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "bench",
]
if os.environ.get("BENCH_AIO") == "1":
    INSTALLED_APPS.insert(0, "django_aio")

# Coroutine views need no word about trust. The synchronous ones run on the loop only if named;
# Django itself ignores the setting.
if not ASYNCHRONOUS_VIEWS:
    AIO = {"COOPERATIVE": ["bench"]}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "bench.urls"
WSGI_APPLICATION = "bench.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def database() -> dict[str, Any]:
    """The default database, the same for every contender."""
    name = os.environ.get("BENCH_DB", "aio_bench")
    if os.environ.get("BENCH_ENGINE") == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "OPTIONS": {"pool": {"min_size": 4, "max_size": 32}},
    }


DATABASES = {"default": database()}
# What `state.py` measures is the request, not the hashing of its password.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGIN_REDIRECT_URL = "/account"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
