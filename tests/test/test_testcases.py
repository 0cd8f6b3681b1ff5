"""Tests that may not use the database, in coroutines."""

import unittest

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection
from django.test import SimpleTestCase
from django.test.testcases import DatabaseOperationForbidden
from testapp.models import Tag


class Coroutines(SimpleTestCase):
    __test__ = False  # pytest is not to collect it: a test of ours runs it

    async def test_synchronous_code(self):
        with pytest.raises(SynchronousOnlyOperation):
            list(Tag.objects.all())

    async def test_query(self):
        with pytest.raises(DatabaseOperationForbidden):
            await Tag.objects.acount()

    async def test_cursor(self):
        with pytest.raises(DatabaseOperationForbidden):
            async with connection.cursor():
                pass

    def test_synchronous_test(self):
        with pytest.raises(DatabaseOperationForbidden):
            Tag.objects.count()


@pytest.mark.parametrize("name", [name for name in dir(Coroutines) if name.startswith("test_")])
def test_each_gets_the_error_that_django_gives(name, db):
    result = unittest.TestResult()
    unittest.TestSuite([Coroutines(name)]).run(result)
    assert result.testsRun == 1
    assert not result.errors + result.failures, (result.errors + result.failures)[0][1]
