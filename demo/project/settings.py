"""Settings of the demo. What a site on django-aio needs of its own is marked with "django-aio".

Environment variables:

- DATABASE_URL    postgres://... or sqlite:////...; a SQLite file beside manage.py without it
- DEBUG=1         Django's debug pages, and a log of every query
- STOCK=1         leave django-aio out: the same site on Django as it is, to compare the two
- ALLOWED_HOSTS   more host names than this machine's own, separated by commas
- FEED_KEEP_ALIVE seconds between the signs of life of an idle feed
"""

from __future__ import annotations

import os
from pathlib import Path

from . import database

BASE_DIR = Path(__file__).resolve().parent.parent

# Not a secret: it is published with the demo. Never use it for anything that matters.
SECRET_KEY = "demo-only-key-published-with-the-source-so-it-protects-nothing"

# Off, although this is a demo: with it on, visitors get Django's technical 404 page in place of
# this site's, and every query is kept in memory for the debug page.
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS += filter(None, os.environ.get("ALLOWED_HOSTS", "").split(","))

STOCK = os.environ.get("STOCK") == "1"

INSTALLED_APPS = [
    *([] if STOCK else ["django_aio"]),  # django-aio: this line is all that it needs
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "atlas",
]

# django-aio: the synchronous code of these modules (a save() method, a signal receiver, the admin
# classes) does nothing that blocks but ORM calls, so it runs on the event loop as well.
AIO = {"COOPERATIVE": ["atlas"]}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "atlas.context.engine_room",
            ],
        },
    },
]

DATABASES = {
    "default": database.from_url(os.environ["DATABASE_URL"])
    if os.environ.get("DATABASE_URL")
    else database.sqlite(BASE_DIR / "atlas.sqlite3")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "atlas:front"
LOGOUT_REDIRECT_URL = "atlas:front"

LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"

FEED_KEEP_ALIVE = float(os.environ.get("FEED_KEEP_ALIVE", "15"))

# Without DEBUG Django would send errors by mail only. 404 and the like are in the access log.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
