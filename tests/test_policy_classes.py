"""`class_in_thread()`: the subclass of an engine or backend that somebody else wrote."""

import threading
from unittest import mock

import pytest

from django_aio import run
from django_aio.policy.classes import class_in_thread


class Engine:
    def where(self):
        return threading.current_thread() is threading.main_thread()

    @classmethod
    def of_class(cls):
        return cls.__name__, threading.current_thread() is threading.main_thread()

    @staticmethod
    def of_nobody(argument):
        return argument, threading.current_thread() is threading.main_thread()


async def test_each_kind_of_method_runs_in_a_thread():
    engine = class_in_thread(Engine, "engine")()
    assert isinstance(engine, Engine)
    assert await run(engine.where) is False
    assert await run(engine.of_class) == ("Engine", False)
    assert await run(engine.of_nobody, 1) == (1, False)
    assert engine.where() is True


@pytest.mark.parametrize("used_before", [True, False])
async def test_what_a_test_puts_in_the_place_of_a_method_is_called(used_before):
    class Patched(Engine):
        def where(self):
            return "original"

    if used_before:
        class_in_thread(Patched, "engine")
    with mock.patch.object(Patched, "where", return_value="patched"):
        assert await run(class_in_thread(Patched, "engine")().where) == "patched"
    assert await run(class_in_thread(Patched, "engine")().where) == "original"


def test_the_subclass_is_none_that_a_package_hears_of():
    """A registry would have it twice, and a class that says it is final could not be used."""
    registered = []

    class Registry(Engine):
        def __init_subclass__(cls, *, table, **kwargs):
            registered.append((cls.__name__, table))

    class Registered(Registry, table="x"):
        pass

    assert class_in_thread(Registered, "engine") is not Registered
    assert registered == [("Registered", "x")]
