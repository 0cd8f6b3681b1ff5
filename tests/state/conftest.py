"""What the tests of the tables share."""

import pytest
from django.contrib.auth import models
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.test import override_settings
from testapp.models import Author

from .tables import CHEAP, State


@pytest.fixture(autouse=True)
def _persistent(persistent):
    """All tables are measured like that."""


@pytest.fixture
def state(db):
    with override_settings(PASSWORD_HASHERS=[CHEAP]):
        user = User.objects.create_user("reader", password="secret")
    content_type = ContentType.objects.get_for_model(Author)
    user.user_permissions.add(
        models.Permission.objects.get(content_type=content_type, codename="add_author")
    )
    connections.close_all()
    return State(user)
