"""The three verbs, on throw-away modules; what is refused, and what is said about it."""

import functools
import importlib.util
import sys
import zipfile
import zipimport

import pytest

from django_aio import patching
from django_aio.patching import Patch, Status, Verb, fingerprint, resolve, series_of_django

add = functools.partial(Patch, Verb.ADD)
rebind = functools.partial(Patch, Verb.REBIND)
replace = functools.partial(Patch, Verb.REPLACE)

UPSTREAM = """
from asgiref.sync import sync_to_async

VALUE = 3

def function():
    return "upstream"

class Base:
    def inherited(self):
        return "base"

class Thing(Base):
    class Inner:
        def method(self):
            return "upstream"

    def method(self):
        return "upstream"

    @property
    def prop(self):
        return "upstream"

    @classmethod
    def by_class(cls):
        return "upstream"

    @staticmethod
    def static():
        return "upstream"
"""

OURS = """
import functools

made = []

def factory(upstream):
    made.append(upstream)

    @functools.wraps(upstream)
    def replacement(*args):
        return f"patched {upstream(*args)}"

    return replacement

def addition(self=None):
    return "added"
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that makes a module of source text, importable until the test ends."""

    def load(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def upstream(load):
    """What is patched. The name is Django's, as the sources of others are not judged."""
    return load("django.throwaway", UPSTREAM)


@pytest.fixture
def ours(load):
    return load("ours", OURS)


def target(path):
    return f"django.throwaway:{path}"


# The verbs.


def test_replace_hands_the_upstream_function_to_the_factory(upstream, ours):
    function = upstream.function
    patch = replace(target("function"), "ours:factory", "why")
    assert patch.apply() is patch.status is Status.APPLIED
    assert upstream.function() == "patched upstream"
    assert ours.made == [function]


@pytest.mark.parametrize("path", ["Thing.method", "Thing.Inner.method"])
def test_replace_a_method(upstream, ours, path):
    replace(target(path), "ours:factory", "why").apply()
    owner = resolve(target(path.rpartition(".")[0]))
    assert owner().method() == "patched upstream"


@pytest.mark.parametrize("name", ["prop", "by_class", "static"])
def test_replace_hands_over_descriptors_as_they_are(upstream, load, name):
    load(
        "ours", "made = []\ndef factory(upstream):\n    made.append(upstream)\n    return upstream"
    )
    descriptor = vars(upstream.Thing)[name]
    replace(target(f"Thing.{name}"), "ours:factory", "why").apply()
    assert sys.modules["ours"].made == [descriptor]
    assert vars(upstream.Thing)[name] is descriptor


def test_add(upstream, ours):
    patch = add(target("Thing.added"), "ours:addition", "why")
    assert patch.apply() is Status.APPLIED
    assert upstream.Thing().added() == "added"
    assert ours.made == []


def test_add_may_override_what_is_inherited(upstream, ours):
    assert add(target("Thing.inherited"), "ours:addition", "why").apply() is Status.APPLIED
    assert upstream.Thing().inherited() == "added"
    assert upstream.Base().inherited() == "base"


@pytest.mark.parametrize("name", ["sync_to_async", "VALUE", "function"])
def test_rebind(upstream, ours, name):
    patch = rebind(target(name), "ours:addition", "why")
    assert patch.apply() is Status.APPLIED
    assert getattr(upstream, name) is ours.addition
    assert not patch.drifted


@pytest.mark.parametrize("verb", [replace, rebind])
def test_apply_twice_changes_nothing(upstream, ours, verb):
    patch = verb(target("function"), "ours:factory", "why")
    patch.apply()
    applied = upstream.function
    assert patch.apply() is Status.APPLIED
    assert upstream.function is applied


def test_add_twice_is_no_conflict(upstream, ours):
    patch = add(target("added"), "ours:addition", "why")
    assert [patch.apply(), patch.apply()] == [Status.APPLIED] * 2


# Conflicts.


@pytest.mark.parametrize(
    ("verb", "name", "reason"),
    [
        (replace, target("gone"), "does not exist in Django"),
        (replace, target("Thing.gone"), "does not exist in Django"),
        (replace, target("Thing.inherited"), "does not exist in Django"),
        (replace, target("Gone.method"), "cannot be reached"),
        (rebind, target("gone"), "does not exist in Django"),
        (add, target("Gone.added"), "cannot be reached"),
        (add, "no_such_module:added", "cannot be reached"),
        (add, target("function"), "exists already, in django.throwaway.function"),
        (add, target("Thing.method"), "exists already, in django.throwaway.Thing.method"),
        (add, target("VALUE"), "exists already, in django.throwaway"),
    ],
)
def test_conflict(upstream, ours, verb, name, reason):
    before = dict(vars(upstream)), dict(vars(upstream.Thing))
    patch = verb(name, "ours:factory", "why")
    assert patch.apply() is patch.status is Status.CONFLICT
    assert patch.reason.startswith(f"{name} {reason}")
    assert (dict(vars(upstream)), dict(vars(upstream.Thing))) == before


def test_a_name_that_another_patch_has_rebound_is_a_conflict(upstream, ours):
    rebind(target("function"), "django_aio.utils.asyncio:native", "first").apply()
    second = rebind(target("function"), "ours:addition", "second")
    assert second.apply() is Status.CONFLICT
    assert second.reason == f"{target('function')} was rebound to django_aio.utils.asyncio.native"
    assert upstream.function is resolve("django_aio.utils.asyncio:native")


def test_a_name_that_another_package_has_rebound_is_a_conflict(upstream, ours, load):
    upstream.sync_to_async = load("elsewhere", UPSTREAM).function
    patch = rebind(target("sync_to_async"), "ours:addition", "why")
    assert patch.apply() is Status.CONFLICT
    assert "elsewhere.function" in patch.reason


def test_a_conflict_is_not_tried_again(upstream, ours):
    patch = replace(target("late"), "ours:factory", "why")
    patch.apply()
    upstream.late = upstream.function
    assert patch.apply() is Status.CONFLICT


@pytest.mark.parametrize("name", ["VALUE.added", "Immutable.added"])
def test_a_target_that_takes_no_attribute_is_a_conflict(upstream, ours, name):
    upstream.Immutable = int
    assert add(target(name), "ours:addition", "why").apply() is Status.CONFLICT


def test_an_error_in_the_replacement_propagates(upstream, load):
    load("ours", "def factory(upstream):\n    raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        replace(target("function"), "ours:factory", "why").apply()
    with pytest.raises(AttributeError, match="no_such_factory"):
        replace(target("function"), "ours:no_such_factory", "why").apply()


# What a patch needs.


def test_pending_until_what_it_needs_is_installed(upstream, ours, load, monkeypatch):
    patch = add(target("added"), "ours:addition", "why", needs=("asyncio", "no_such_driver"))
    assert patch.apply() is Status.PENDING
    assert patch.reason == "no_such_driver not installed"
    assert not hasattr(upstream, "added")
    monkeypatch.setattr(patching, "_installed", lambda name: True)
    assert patch.apply() is Status.APPLIED
    assert patch.reason == ""


def test_a_target_of_something_not_installed_is_not_looked_at(ours):
    patch = replace("no_such_driver:name", "no_such_package:factory", "why", needs=("no_such.x",))
    assert patch.apply() is Status.PENDING


# Fingerprints.


def written_against(monkeypatch, patch, digits):
    known = {patch.target: {series_of_django(): digits}}
    monkeypatch.setattr(patching, "fingerprints", lambda: known)


@pytest.mark.parametrize("same", [True, False])
def test_drifted(upstream, ours, monkeypatch, same):
    patch = replace(target("function"), "ours:factory", "why")
    written_against(monkeypatch, patch, fingerprint(upstream.function) if same else "0" * 12)
    assert not patch.drifted
    assert patch.apply() is Status.APPLIED  # reported, but applied
    assert patch.drifted is not same


def test_a_function_without_a_known_fingerprint_has_drifted(upstream, ours, monkeypatch):
    monkeypatch.setattr(patching, "fingerprints", dict)
    patch = replace(target("function"), "ours:factory", "why")
    patch.apply()
    assert patch.drifted


def test_a_function_replaced_by_another_package_is_not_judged(upstream, ours, monkeypatch):
    patch = replace(target("function"), "ours:factory", "why")
    written_against(monkeypatch, patch, fingerprint(upstream.function))
    upstream.function = lambda: "another package"
    patch.apply()
    assert not patch.drifted
    assert "test_patching" in patch.stranger


def test_only_django_is_judged(load, ours, monkeypatch):
    load("elsewhere", UPSTREAM)
    monkeypatch.setattr(patching, "fingerprints", dict)
    patch = replace("elsewhere:function", "ours:factory", "why")
    assert patch.apply() is Status.APPLIED
    assert not patch.drifted


def test_fingerprint_ignores_blank_lines_and_depth(load):
    one = load("one", "def function(a):\n    if a:\n        a = 1\n    return a\n")
    two = load(
        "two",
        "if True:\n    def function(a):\n\n        if a:\n            a = 1  \n        return a\n",
    )
    assert fingerprint(one.function) == fingerprint(two.function)
    assert len(fingerprint(one.function)) == 12


def test_fingerprint_sees_a_statement_that_moves_out_of_a_block(load):
    one = load("one", "def function(a):\n    if a:\n        a = 1\n        a = 2\n    return a\n")
    two = load("two", "def function(a):\n    if a:\n        a = 1\n    a = 2\n    return a\n")
    assert fingerprint(one.function) != fingerprint(two.function)


@pytest.mark.parametrize("name", ["function", "Thing", "Thing.method"])
def test_fingerprint_changes_with_the_code(load, name):
    load("one", UPSTREAM)
    load("two", UPSTREAM.replace('"upstream"', '"changed"'))
    assert fingerprint(resolve(f"one:{name}")) != fingerprint(resolve(f"two:{name}"))


@pytest.mark.parametrize("name", ["prop", "by_class", "static"])
def test_fingerprint_of_descriptors(load, name):
    one, two = load("one", UPSTREAM), load("two", UPSTREAM.replace('"upstream"', '"changed"'))
    found = fingerprint(vars(one.Thing)[name])
    assert found == fingerprint(getattr(vars(one.Thing)[name], "__func__", one.Thing.prop.fget))
    assert found != fingerprint(vars(two.Thing)[name])


def test_fingerprint_of_a_decorated_function_is_that_of_the_function(upstream):
    decorated = functools.wraps(upstream.function)(lambda: None)
    assert fingerprint(decorated) == fingerprint(upstream.function)


@pytest.mark.parametrize("value", [sys, 3, "text", None, len, functools.partial(len), property()])
def test_no_fingerprint(value):
    assert fingerprint(value) is None


def test_series_of_django(monkeypatch):
    monkeypatch.setattr("django.VERSION", (6, 1, 3, "final", 0))
    assert series_of_django() == "6.1"


# Names.


def test_resolve(upstream):
    assert resolve(target("function")) is upstream.function
    assert resolve(target("Thing.Inner.method")) is upstream.Thing.Inner.method


@pytest.mark.parametrize(
    ("name", "error"),
    [("no_such_module:name", ImportError), (target("Thing.gone"), AttributeError)],
)
def test_resolve_what_is_not_there(upstream, name, error):
    with pytest.raises(error):
        resolve(name)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that nobody has imported."""
    (tmp_path / "not_imported_yet.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "not_imported_yet"
    sys.modules.pop("not_imported_yet", None)


def test_what_waits_for_a_module_is_done_once_it_has_run(module):
    done = []
    for number in range(2):
        patching.when_imported(module, lambda n=number: done.append((n, sys.modules[module].value)))
    # To ask whether there is such a module is not to import it.
    assert importlib.util.find_spec(module) is not None
    assert done == []
    importlib.import_module(module)
    assert done == [(0, 1), (1, 1)]
    patching.when_imported(module, lambda: done.append("at once"))
    assert done[2:] == ["at once"]
    importlib.reload(sys.modules[module])
    assert len(done) == 3


def test_all_patches_that_wait_are_one_step_of_each_import():
    before = len(sys.meta_path)
    for name in ("never_imported", "never_imported_either"):
        patching.when_imported(name, lambda: None)
        assert len(sys.meta_path) <= before + 1
        assert importlib.util.find_spec(name) is None


def test_what_waits_for_a_module_waits_for_the_packages_round_it(tmp_path, monkeypatch):
    """An action may import what is half made while one of them is imported."""
    package = tmp_path / "half_made"
    package.mkdir()
    (package / "__init__.py").write_text("from half_made import first, second\ndone = True\n")
    (package / "first.py").write_text("")
    (package / "second.py").write_text("import half_made.first\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []

    def look(name):
        seen.append((name, importlib.import_module("half_made").done))

    for name in ("half_made.second", "half_made.first"):
        patching.when_imported(name, functools.partial(look, name))
    importlib.import_module("half_made.second")
    assert seen == [("half_made.first", True), ("half_made.second", True)]
    for name in ("half_made", "half_made.first", "half_made.second"):
        del sys.modules[name]


def test_an_action_that_imports_what_is_awaited_is_done_first(tmp_path, monkeypatch):
    for name in ("awaited_one", "awaited_two"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    done = []

    def act():
        importlib.import_module("awaited_two")
        done.append("one")

    patching.when_imported("awaited_two", lambda: done.append("two"))
    patching.when_imported("awaited_one", act)
    importlib.import_module("awaited_one")
    assert done == ["one", "two"]


def test_a_module_of_a_zip(tmp_path, monkeypatch):
    """Its loader is that of all modules of the archive, and is left as it is."""
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for name in ("of_a_zip", "also_of_it"):
            archive.writestr(f"{name}.py", "value = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "some.zip")
    done = []
    for name in ("of_a_zip", "also_of_it"):
        patching.when_imported(name, functools.partial(done.append, name))
    module = importlib.import_module("of_a_zip")
    assert done == ["of_a_zip"]
    assert isinstance(module.__loader__, zipimport.zipimporter)
    assert module.__spec__.loader is module.__loader__
    importlib.import_module("also_of_it")
    assert done == ["of_a_zip", "also_of_it"]


def test_a_wrapper_of_another_package_is_wrapped(upstream, ours, load):
    """It need not say what it wraps, and its source is not Django's that drifted."""
    load("tracker", "def wrap(upstream):\n    return lambda *args: f'seen {upstream(*args)}'\n")
    upstream.Thing.method = sys.modules["tracker"].wrap(upstream.Thing.method)
    patch = replace(target("Thing.method"), "ours:factory", "why")
    assert patch.apply() is Status.APPLIED
    assert patch.stranger == "tracker.wrap.<locals>.<lambda>"
    assert not patch.drifted
    assert upstream.Thing().method() == "patched seen upstream"


def test_a_wrapper_of_another_package_is_left_alone(upstream, ours, load):
    """By a patch that only makes Django do less."""
    load("tracker", "def wrap(upstream):\n    return lambda *args: f'seen {upstream(*args)}'\n")
    upstream.Thing.method = sys.modules["tracker"].wrap(upstream.Thing.method)
    patch = replace(target("Thing.method"), "ours:factory", "why", aside=True)
    assert patch.apply() is Status.PENDING
    assert patch.reason == "left to tracker.wrap.<locals>.<lambda>"
    assert patch.stranger == ""
    assert upstream.Thing().method() == "seen upstream"


def test_a_class_of_another_package_in_the_place_of_djangos(ours, load, monkeypatch):
    """The patch is for Django's class, which it is made of."""
    from django.core.handlers import asgi

    class Tracked(asgi.ASGIHandler):
        pass

    before = vars(asgi.ASGIHandler)["create_request"]
    monkeypatch.setattr(asgi.ASGIHandler, "create_request", before)  # undone afterwards
    monkeypatch.setattr(asgi, "ASGIHandler", Tracked)
    patch = replace("django.core.handlers.asgi:ASGIHandler.create_request", "ours:factory", "why")
    assert patch.apply() is Status.APPLIED
    assert vars(Tracked.__mro__[1])["create_request"] is not before
    assert "create_request" not in vars(Tracked)
