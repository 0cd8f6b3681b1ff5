"""Settings of the tests. TEST_DB picks the database: sqlite (a file, the default) or postgresql.

With AIO_SPEEDUPS=off what makes Django do less work is left out.
"""

import os
import tempfile
from pathlib import Path

TEST_DB = os.environ.get("TEST_DB", "sqlite")
# Several processes may run the tests at the same time.
NAME = f"django_aio_{os.getpid()}"

if TEST_DB == "postgresql":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "PORT": os.environ.get("PGPORT", "5432"),
            "USER": os.environ.get("PGUSER", "postgres"),
            "PASSWORD": os.environ.get("PGPASSWORD", ""),
            "NAME": NAME,
            "TEST": {"MIGRATE": False},
        }
    }
else:
    _file = Path(tempfile.gettempdir()) / f"{NAME}.sqlite3"
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": _file,
            "OPTIONS": {
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF",
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
            },
            # A file, as a site has: an in-memory database would hide that chains have connections
            # of their own.
            "TEST": {"NAME": _file, "MIGRATE": False},
        }
    }

ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django_aio",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.sites",
    "django.contrib.flatpages",
    "django.contrib.redirects",
    "testapp",
]
# What 'startproject' writes.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "testapp.urls"
SECRET_KEY = "only for the tests"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
SITE_ID = 1
USE_TZ = True
AIO = {
    "COOPERATIVE": ["testapp.trusted"],
    "SPEEDUPS": os.environ.get("AIO_SPEEDUPS", "on") != "off",
}
