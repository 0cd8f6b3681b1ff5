"""The settings that Django's suite runs with: its own for SQLite, with our databases and caches.

What to use comes from the process that starts this one, in AIO_UPSTREAM (JSON; see `plan.Job`).
With AIO_SPEEDUPS=off what makes Django do less work is left out.
"""

import json
import os

from test_sqlite import *  # noqa: F403 - Django's own settings for its suite

_job = json.loads(os.environ["AIO_UPSTREAM"])
_name = f"aio_{os.getppid()}_{_job['lane']}"  # several runs may be going on

if "postg" in _job["engine"]:
    _server = {
        "ENGINE": _job["engine"],
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
    }
    DATABASES = {
        "default": {**_server, "NAME": _name},
        "other": {**_server, "NAME": f"{_name}_other"},
    }
else:
    DATABASES = {
        "default": {"ENGINE": _job["engine"]},
        "other": {"ENGINE": _job["engine"]},
    }
    SPATIALITE_LIBRARY_PATH = "mod_spatialite"

# The servers that Django's cache tests use if the settings name them.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if "memcached" in _job["servers"]:
    for _backend in ("PyMemcacheCache", "PyLibMCCache"):
        CACHES[_backend] = {
            "BACKEND": f"django.core.cache.backends.memcached.{_backend}",
            "LOCATION": "127.0.0.1:11211",
        }
if "Redis" in _job["servers"]:
    CACHES["redis"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://127.0.0.1:6379",
    }

AIO: dict[str, object] = {"SPEEDUPS": os.environ.get("AIO_SPEEDUPS", "on") != "off"}
if _job["mode"] == "native":
    # The tests' own views and middleware are as trusted as Django's: nothing needs a thread.
    AIO["COOPERATIVE"] = _job["modules"]
