"""The servers that tests talk to where they answer. Standard library only."""

import os
import socket
import uuid

ADDRESSES = {
    "PostgreSQL": (os.environ.get("PGHOST", "127.0.0.1"), int(os.environ.get("PGPORT", "5432"))),
    "MariaDB": ("127.0.0.1", 3306),
    "Redis": ("127.0.0.1", 6379),
    "memcached": ("127.0.0.1", 11211),
}

# Several processes may run the tests at the same time, on the same servers.
PREFIX = f"django_aio_{uuid.uuid4().hex}"


def answers(name):
    """Whether something listens there."""
    try:
        socket.create_connection(ADDRESSES[name], timeout=2).close()
    except OSError:
        return False
    return True


def redis_cache(database=9, **options):
    """An entry of CACHES for the Redis server."""
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://{}:{}/{}".format(*ADDRESSES["Redis"], database),
        "KEY_PREFIX": PREFIX,
        "OPTIONS": options,
    }


def memcached_cache(client="PyMemcacheCache", **options):
    """An entry of CACHES for the memcached server."""
    return {
        "BACKEND": f"django.core.cache.backends.memcached.{client}",
        "LOCATION": "{}:{}".format(*ADDRESSES["memcached"]),
        "KEY_PREFIX": PREFIX,
        "OPTIONS": options,
    }
