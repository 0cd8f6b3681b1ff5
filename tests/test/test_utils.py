"""assertNumQueries() and CaptureQueriesContext in every kind of test case, synchronous or not."""

import asyncio
import unittest

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import TestCase, TransactionTestCase
from testapp.models import Author

from django_aio import run

pytestmark = pytest.mark.usefixtures("db")


async def count(times=1):
    for _ in range(times):
        await Author.objects.acount()


async def nested():
    """A task's task."""
    await asyncio.gather(count(), count())


class Counting:
    __test__ = False  # of pytest's

    """In every kind of test case, synchronous or not."""

    async def test_in_a_coroutine(self):
        with self.assertNumQueries(5):
            await count()
            await asyncio.gather(count(), nested())
            await run(Author.objects.count)

    def test_synchronous(self):
        with self.assertNumQueries(4):
            async_to_sync(count)()
            async_to_sync(nested)()
            Author.objects.count()

    async def test_in_the_bridge(self):
        await run(self.test_synchronous_part)

    def test_synchronous_part(self):
        with self.assertNumQueries(1):
            Author.objects.count()

    async def test_a_wrong_number(self):
        with (
            pytest.raises(AssertionError, match="1 queries executed, 2 expected"),
            self.assertNumQueries(2),
        ):
            await count()


class InTestCase(Counting, TestCase):
    pass


class InTransactionTestCase(Counting, TransactionTestCase):
    pass


CASES = [
    case(name)
    for case in (InTestCase, InTransactionTestCase)
    for name in unittest.defaultTestLoader.getTestCaseNames(case)
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_statements_are_counted(case):
    connections.close_all()
    result = unittest.TestResult()
    unittest.TestSuite([case]).run(result)
    assert result.testsRun == 1
    assert not result.errors + result.failures
