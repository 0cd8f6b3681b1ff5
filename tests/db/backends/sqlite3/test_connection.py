"""What a project leaves on the connection of a SQLite database ends with its chain."""

import pytest
from conftest import sqlite_only
from db.endings import in_new_context
from django.db import connection, connections, transaction
from testapp.models import Author

from django_aio import run

pytestmark = [pytest.mark.usefixtures("kept_open"), sqlite_only]


@pytest.fixture
def kept_open(db, monkeypatch):
    """SQLite with CONN_MAX_AGE."""
    connections.close_all()
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    yield
    connections.close_all()


ALTERATIONS = {
    "execute": lambda client: client.execute("PRAGMA user_version"),
    "cursor": lambda client: client.cursor().execute("CREATE TEMPORARY TABLE mine (n int)"),
    "function": lambda client: client.create_function("lower", 1, lambda text: "wrong"),
    "authorizer": lambda client: client.set_authorizer(None),
    "factory of rows": lambda client: setattr(client, "row_factory", lambda cursor, row: None),
    "factory of text": lambda client: setattr(client, "text_factory", bytes),
}


def client():
    """The physical connection."""
    connection.ensure_connection()
    return connection.connection


def alter(name):
    Author.objects.count()
    ALTERATIONS[name](client())
    return client()


@pytest.mark.parametrize("name", ALTERATIONS)
async def test_what_is_altered_is_not_given_to_the_next_request(name):
    altered = await in_new_context(run(alter, name))
    assert await in_new_context(run(client)) is not altered


async def test_ordinary_use_leaves_it_open():
    def use():
        Author.objects.create(name="ada", born=1)
        with transaction.atomic():
            list(Author.objects.iterator())
            list(Author.objects.raw("SELECT * FROM testapp_author"))
        return client()

    used = await in_new_context(run(use))
    assert await in_new_context(run(client)) is used
