"""Instances of rows are what Django makes of them, however they are made."""

import threading

import pytest
from django.db import connection, models
from django.db.models import DEFERRED, Model
from django.db.models.signals import post_init, pre_init
from django.test.utils import isolate_apps
from hypothesis import given
from hypothesis import strategies as st
from testapp.models import Author, Book

from django_aio.db.models import base

ROW = (7, "a title", 3, 100)
NAMES = ["id", "title", "author_id", "pages"]

# Django's own, as it was before the series was applied.
djangos = Model.from_db.__func__.__wrapped__


def same(made, expected):
    """Whether two instances have the same attributes, in the same order, and the same state."""
    attributes, others = vars(made).copy(), vars(expected).copy()
    state, other = attributes.pop("_state"), others.pop("_state")
    return list(attributes.items()) == list(others.items()) and vars(state) == vars(other)


@pytest.fixture
def inits(monkeypatch):
    """The classes whose `__init__()` was called."""
    found = []

    def __init__(self, *args, **kwargs):
        found.append(type(self))
        original(self, *args, **kwargs)

    original = Model.__init__
    monkeypatch.setattr(Model, "__init__", __init__)
    return found


@given(st.sets(st.sampled_from(NAMES)).map(lambda some: [n for n in NAMES if n in some]))
def test_a_row_of_any_fields(names):
    values = [value for name, value in zip(NAMES, ROW, strict=True) if name in names]
    for each in (names, tuple(names), set(names)):
        made = Book.from_db("other", each, values)
        assert same(made, djangos(Book, "other", each, values))
        assert made.get_deferred_fields() == set(NAMES) - set(names)
    assert not made._state.adding
    assert made._state.db == "other"
    assert made._state.fields_cache == {}


def test_it_is_made_without_its_init(inits, monkeypatch):
    monkeypatch.setattr(base, "INIT", Model.__init__)
    assert Book.from_db("default", NAMES, ROW).title == "a title"
    assert Book.from_db("default", NAMES[1:], ROW[1:]).title == "a title"
    assert inits == []


def test_who_patches_the_init_is_called(inits):
    assert Book.from_db("default", NAMES, ROW).title == "a title"
    assert inits == [Book]


def test_a_value_may_be_deferred():
    row = (7, DEFERRED, 3, 100)
    made = Book.from_db("default", NAMES, row)
    assert same(made, djangos(Book, "default", NAMES, row))
    assert made.get_deferred_fields() == {"title"}


def outcome(load, *args):
    """The instance, or the error."""
    try:
        return load(*args)
    except Exception as error:
        return error


@pytest.mark.parametrize("row", [(), ROW[:2], (*ROW, 5)])
def test_a_row_of_another_length_ends_as_in_django(row):
    made = outcome(Book.from_db, "default", NAMES, row)
    expected = outcome(djangos, Book, "default", NAMES, row)
    assert type(made) is type(expected)
    assert isinstance(made, Exception) or same(made, expected)


@pytest.mark.parametrize("signal", [pre_init, post_init])
def test_receivers_hear_of_instances(signal):
    heard = []

    def receiver(sender, **kwargs):
        heard.append(sender)

    signal.connect(receiver, sender=Book)
    try:
        Author.from_db("default", ["id", "name", "born"], (1, "a", 1900))
        Author.from_db("default", ["id", "name", "born"], (1, "a", 1900))
        Book.from_db("default", NAMES, ROW)
        Book.from_db("default", NAMES, ROW)
    finally:
        signal.disconnect(receiver, sender=Book)
    assert heard == [Book, Book]
    Book.from_db("default", NAMES, ROW)
    assert heard == [Book, Book]


@isolate_apps("testapp")
def test_classes_with_something_of_their_own():
    made = []

    class Mixin:
        def __init__(self):
            made.append("mixin")

    class Meta(models.base.ModelBase):
        def __call__(cls, *args, **kwargs):
            made.append("metaclass")
            return super().__call__(*args, **kwargs)

    class WithInit(models.Model):
        class Meta:
            app_label = "testapp"

        def __init__(self, *args):
            made.append("init")
            super().__init__(*args)

    class WithNew(models.Model):
        class Meta:
            app_label = "testapp"

        def __new__(cls, *args):
            made.append("new")
            return super().__new__(cls)

    class WithMixin(models.Model, Mixin):
        class Meta:
            app_label = "testapp"

    class WithMetaclass(models.Model, metaclass=Meta):
        class Meta:
            app_label = "testapp"

    for cls in (WithInit, WithNew, WithMixin, WithMetaclass):
        made.clear()
        assert cls.from_db("default", ["id"], (1,)).pk == 1
        assert len(made) == 1


@isolate_apps("testapp")
def test_descriptors_of_fields_get_their_values():
    class Document(models.Model):
        file = models.FileField()

        class Meta:
            app_label = "testapp"

    class Loud(Document):
        class Meta:
            app_label = "testapp"
            proxy = True

        def __setattr__(self, name, value):
            super().__setattr__(name, value.upper() if name == "file" else value)

    names = ["id", "file"]
    assert Document.from_db("default", names, (1, "a.txt")).file.name == "a.txt"
    assert Loud.from_db("default", names, (1, "a.txt")).file.name == "A.TXT"


@isolate_apps("testapp")
def test_fields_that_come_later_count():
    class Growing(models.Model):
        class Meta:
            app_label = "testapp"

    assert Growing.from_db("default", ["id"], (1,)).pk == 1
    models.IntegerField(default=5).contribute_to_class(Growing, "size")
    assert Growing.from_db("default", ["id", "size"], (1, 9)).size == 9
    assert Growing.from_db("default", ["id"], (1,)).get_deferred_fields() == {"size"}


def test_an_abstract_model_has_no_instances():
    class Abstract(models.Model):
        class Meta:
            abstract = True
            app_label = "testapp"

    with pytest.raises(TypeError, match="Abstract models cannot be instantiated"):
        Abstract.from_db("default", [], ())


def test_fetch_modes():
    mode = pytest.importorskip("django.db.models.fetch_modes").FETCH_PEERS
    made = Book.from_db("default", NAMES, ROW, fetch_mode=mode)
    assert made._state.fetch_mode is mode
    assert same(made, djangos(Book, "default", NAMES, ROW, fetch_mode=mode))


def test_an_argument_that_django_does_not_know():
    with pytest.raises(TypeError):
        Book.from_db("default", NAMES, ROW, mode=1)


def test_threads_load_rows_of_different_fields():
    both = threading.Barrier(2)
    found = []

    def load(names):
        both.wait(20)
        for _ in range(2000):
            made = Book.from_db("default", names, ROW[1 : 1 + len(names)])
            found.append(set(NAMES) - made.get_deferred_fields() == set(names))

    threads = [threading.Thread(target=load, args=(NAMES[1:n],)) for n in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [True] * 4000


def test_queries_give_the_same_instances(db):
    author = Author.objects.create(name="a")
    book = Book.objects.create(title="b", author=author)
    loaded = Book.objects.select_related("author").defer("pages").get()
    assert (loaded.pk, loaded.title, loaded.author, loaded.author.born) == (
        book.pk,
        "b",
        author,
        1900,
    )
    assert loaded.get_deferred_fields() == {"pages"}
    assert loaded.pages == book.pages
    [raw] = Book.objects.raw(f"SELECT pages, id FROM {Book._meta.db_table}")
    assert (raw.pk, raw.pages, raw.get_deferred_fields()) == (
        book.pk,
        book.pages,
        {"title", "author_id"},
    )
    assert connection.alias == raw._state.db
