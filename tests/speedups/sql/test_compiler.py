"""SQL that is kept: what Django makes of every query and value, as long as that is so."""

import datetime
import decimal
import threading
import uuid

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.db.models import Count, Exists, F, Max, OuterRef, Q, Value
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.subqueries import UpdateQuery
from django.test.utils import isolate_apps, register_lookup
from hypothesis import given, settings
from hypothesis import strategies as st
from testapp.models import Author, Book

from django_aio import run
from django_aio.speedups.sql import compiler as kept
from django_aio.speedups.sql.shape import MOST_VALUES, shape_of

pytestmark = pytest.mark.usefixtures("db", "nothing_kept")


@pytest.fixture
def nothing_kept():
    kept.forget()
    yield
    kept.forget()


# What is kept is compiled once more, with marks for its values.
PROVEN = 2


@pytest.fixture
def compilations(monkeypatch):
    """Each compilation that Django did itself, by its model."""
    done = []
    upstream = SQLCompiler.pre_sql_setup

    def pre_sql_setup(self, *args, **kwargs):
        done.append(self.query.model)
        return upstream(self, *args, **kwargs)

    monkeypatch.setattr(SQLCompiler, "pre_sql_setup", pre_sql_setup)
    return done


def outcome(queryset, as_sql=None):
    """The SQL of a queryset, and all that compiling it leaves for who reads the rows."""
    compiler = queryset.all().query.get_compiler("default")
    sql, params = as_sql(compiler) if as_sql else compiler.as_sql()
    columns = [
        (type(column), getattr(column, "alias", None), getattr(column, "target", None), *rest)
        for column, *rest in compiler.select
    ]
    converters = compiler.get_converters([column for column, *_ in compiler.select])
    return (
        sql,
        [(type(value), value) for value in params],
        columns,
        described(compiler.klass_info),
        compiler.annotation_col_map,
        compiler.col_count,
        compiler.has_extra_select,
        list(converters),
        len(compiler.query.alias_map) > 0,
    )


def described(info):
    """What is known of the rows' models, without the functions that set relations."""
    if info is None:
        return None
    related = [described(each) for each in info.get("related_klass_infos", ())]
    return info["model"], info["select_fields"], info.get("from_parent"), info.get("field"), related


def upstream(queryset):
    """As Django alone compiles it."""
    return outcome(queryset, SQLCompiler.as_sql.__wrapped__)


FILTERS = [
    lambda n, s: Q(pk=n),
    lambda n, s: Q(pages__gte=n),
    lambda n, s: Q(title=s),
    lambda n, s: Q(title__icontains=s),
    lambda n, s: Q(title__in=[s, str(n)]),
    lambda n, s: Q(pages__range=(n, n + 1)),
    lambda n, s: Q(author=n),
    lambda n, s: Q(author__in=[n]),
    lambda n, s: Q(author__name__startswith=s),
    lambda n, s: Q(author__born__lt=n, title=s),
    lambda n, s: Q(author__isnull=n % 2 == 0),
    lambda n, s: Q(title=s) | Q(pages=n),
    lambda n, s: ~Q(title=s),
    lambda n, s: Q(readers=n),
    lambda n, s: Q(pages=F("author__born")),
    lambda n, s: Q(pk__in=[]),
    lambda n, s: Q(title=s) ^ Q(pages=n),
]
CHANGES = [
    lambda q: q.order_by("title", "-pages"),
    lambda q: q.order_by("author__name"),
    lambda q: q.order_by(F("pages").desc()),
    lambda q: q.order_by("?"),
    lambda q: q.reverse(),
    lambda q: q.distinct(),
    lambda q: q.select_related("author"),
    lambda q: q.select_related(),
    lambda q: q.only("title"),
    lambda q: q.defer("pages").select_related("author"),
    lambda q: q.values("title", "author__name"),
    lambda q: q.values_list("pk", flat=True),
    lambda q: q.annotate(n=Count("readers")),
    lambda q: q.annotate(n=Count("readers", distinct=True), last=Max("author__born")),
    lambda q: q.annotate(n=Count("readers", filter=Q(pages=3))),
    lambda q: q.annotate(one=Value(1)),
    lambda q: q.annotate(one=Value("x")).values("one", "title"),
    lambda q: q.alias(one=Value(1)).order_by("one"),
    lambda q: q.alias(a=Value("a"), one=Value(1)).order_by("a", "title", "one"),
    lambda q: q.annotate(a=Value(1), b=Value(2)).values_list("title", "a").order_by("b"),
    lambda q: q.annotate(more=F("pages") + 1),
    lambda q: q.annotate(read=Exists(Author.objects.filter(read=OuterRef("pk")))),
    lambda q: q.values("author").annotate(n=Count("pk")).order_by("author"),
    lambda q: q[2:5],
    lambda q: q.none(),
]


@settings(deadline=None)
@given(
    picked=st.lists(st.sampled_from(FILTERS), max_size=3),
    changes=st.lists(st.sampled_from(CHANGES), max_size=3),
    exclude=st.booleans(),
    numbers=st.lists(st.integers(-3, 3) | st.just(2**70), min_size=2, max_size=2),
    texts=st.lists(st.sampled_from(["", "a", "50%", "%s", "'"]), min_size=2, max_size=2),
)
def test_it_is_the_sql_that_django_makes(picked, changes, exclude, numbers, texts):
    """Queries of one shape, one after the other: the second is found, and is what it should be."""

    def build(number, text):
        queryset = Book.objects.all()
        for each in picked:
            queryset = (queryset.exclude if exclude else queryset.filter)(each(number, text))
        for change in changes:
            queryset = change(queryset)
        return queryset

    for number, text in (*zip(numbers, texts, strict=True), (numbers[0], texts[0])):
        try:
            expected = upstream(build(number, text))
        except Exception as error:  # Django refuses it, or no row can match
            with pytest.raises(type(error)):
                outcome(build(number, text))
        else:
            assert outcome(build(number, text)) == expected


def test_a_query_is_compiled_once_for_all_values(compilations):
    a, b = (Author.objects.create(name=name) for name in "ab")
    compilations.clear()
    assert [Author.objects.get(pk=each.pk) for each in (a, b, a)] == [a, b, a]
    assert [Author.objects.filter(name=name).exists() for name in "abc"] == [True, True, False]
    assert [Author.objects.filter(name__in=list(names)).count() for names in ("ab", "xy")] == [2, 0]
    assert compilations == [Author] * 3 * PROVEN


async def test_tasks_find_what_others_have_left(compilations):
    await Author.objects.acreate(name="a")
    compilations.clear()
    assert [await Author.objects.filter(name=name).acount() for name in "aba"] == [1, 0, 1]
    assert await run(Author.objects.filter(name="a").count) == 1
    assert compilations == [Author] * PROVEN


def test_rows_and_their_relations():
    ada = Author.objects.create(name="Ada")
    for title in "abc":
        Book.objects.create(title=title, author=ada)
    for title in ("a", "b"):
        book = Book.objects.select_related("author").annotate(n=Count("readers")).get(title=title)
        assert (book.title, book.author, book.n) == (title, ada, 0)
        assert "author" in book._state.fields_cache
    for size in (1, 2):
        assert len(Book.objects.order_by("title")[:size]) == size
    for name in ("Ada", "Bob"):
        found = list(Book.objects.filter(author__name=name).values_list("title", flat=True))
        assert sorted(found) == (["a", "b", "c"] if name == "Ada" else [])


@pytest.mark.parametrize("value", [2**80, -(2**80)])
def test_a_value_that_no_row_can_have(value):
    """Django leaves such a comparison out: the SQL is another one for this value."""
    author = Author.objects.create(name="a")
    wanted = Q(pk=author.pk) | Q(name="a")
    assert Author.objects.filter(Q(pk=0) | Q(name="a")).count() == 1
    assert list(Author.objects.filter(Q(pk=value) | wanted)) == [author]
    assert not Author.objects.filter(pk=value).exists()
    assert Author.objects.filter(pk=author.pk).exists()


def test_the_same_value_twice_in_a_list():
    author = Author.objects.create(name="a")
    for values in ([author.pk, 0], [author.pk, author.pk], [author.pk, 1000]):
        assert list(Author.objects.filter(pk__in=values)) == [author]


def test_a_query_that_was_found_can_be_used_further():
    """Compiling leaves a name for the table in the query, which Django's own tests look at."""
    Author.objects.create(name="a")
    for _ in range(2):
        authors = Author.objects.all()
        assert len(authors) == 1
        assert len(authors.query.alias_map) == 1
        assert authors.filter(books__title="x").count() == 0
        books = Book.objects.select_related("author")
        assert list(books) == []
        assert list(books.filter(author__name="a").order_by("author__born")) == []


@pytest.mark.parametrize("attribute", ["ordering", "db_table"])
def test_a_model_that_has_changed_is_compiled_anew(attribute, monkeypatch):
    before = outcome(Book.objects.select_related("author"))
    other = {"ordering": ["-title"], "db_table": Author._meta.db_table + "_2"}[attribute]
    model = Book if attribute == "ordering" else Author
    monkeypatch.setattr(model._meta, attribute, other)
    changed = outcome(Book.objects.select_related("author"))
    assert changed[0] != before[0]
    assert changed == upstream(Book.objects.select_related("author"))
    monkeypatch.undo()
    assert outcome(Book.objects.select_related("author")) == before


@isolate_apps("testapp")
def test_a_field_that_is_added_later_is_selected():
    class Growing(models.Model):
        class Meta:
            app_label = "testapp"

    assert "name" not in outcome(Growing.objects.all())[0]
    models.CharField(max_length=5).contribute_to_class(Growing, "name")
    assert "name" in outcome(Growing.objects.all())[0]


@isolate_apps("testapp")
def test_a_field_or_a_relation_that_decides_for_itself_is_asked_every_time():
    class Moody(models.IntegerField):
        mood = "1"

        def select_format(self, compiler, sql, params):
            return f"{sql} + {self.mood}", params

    class Elsewhere(models.ForeignKey):
        condition = None

        def get_extra_restriction(self, alias, related_alias):
            return self.condition

    class Thing(models.Model):
        number = Moody()
        author = Elsewhere(Author, models.CASCADE)

        class Meta:
            app_label = "testapp"

    for Moody.mood in "12":
        assert f"+ {Moody.mood}" in outcome(Thing.objects.all())[0]
    joined = Thing.objects.filter(author__name="a").values("pk")
    column = Author._meta.get_field("born").get_col(Author._meta.db_table)
    for Elsewhere.condition, count in ((None, 1), (models.lookups.IsNull(column, True), 2)):
        assert outcome(joined)[0].count("born") == count - 1


class Loud(models.lookups.Exact):
    """A project's lookup, which makes its SQL of the value."""

    lookup_name = "loud"

    def as_sql(self, compiler, connection):
        return f"'{self.rhs}' = '{self.rhs}'", []


@pytest.mark.parametrize(
    "make",
    [
        lambda: Author.objects.select_for_update(),
        lambda: Author.objects.extra(where=["1 = 1"]),
        lambda: Author.objects.filter(name__loud="x"),
        lambda: Author.objects.filter(pk__in=Book.objects.values("author")),
        lambda: Author.objects.filter(born=F("pk")),
        lambda: Author.objects.filter(born__in=[1, F("pk")]),
        lambda: Author.objects.filter(pk__in=range(MOST_VALUES + 1)),
        lambda: Author.objects.annotate(title=models.FilteredRelation("books")).filter(title=1),
        lambda: Author.objects.union(Author.objects.all()),
        lambda: Author.objects.order_by(F("name")),
        lambda: Author.objects.annotate(n=Count("books", filter=Q(born=1))),
        lambda: Author.objects.annotate(n=Max("born", default=0)),
        lambda: Author.objects.annotate(n=Count("pk", output_field=models.FloatField())),
        lambda: Author.objects.annotate(x=Value(1.5)),
        lambda: User.objects.dates("date_joined", "day"),
        lambda: User.objects.filter(date_joined__year=2000),
        lambda: Author.objects.none(),
    ],
)
def test_what_is_not_known_has_no_shape(make):
    with register_lookup(models.CharField, Loud):
        assert shape_of(make().query) is None


def test_an_attribute_of_another_package_has_no_shape():
    query = Author.objects.all().query
    assert shape_of(query) is not None
    query.hints = {"index": "name"}
    assert shape_of(query) is None
    assert shape_of(UpdateQuery(Author)) is None


def test_parameters_of_a_join_are_not_taken_for_those_of_a_lookup():
    """The join to a generic relation compares with a content type."""
    Author.objects.create(name="a")
    for name in "ab":
        tagged = Author.objects.filter(tags__name=name)
        assert outcome(tagged) == upstream(tagged)
    content_type = ContentType.objects.get_for_model(Author)
    assert (int, content_type.pk) in [(int, value) for _, value in outcome(tagged)[1]]


@pytest.mark.parametrize(
    "build",
    [
        lambda value: Book.objects.alias(c=Value(1)).order_by("c").filter(pages=value),
        lambda value: Book.objects.alias(c=Value(1)).order_by("c").filter(pages__gt=value),
        lambda value: (
            Book.objects.annotate(a=Value(1), b=Value(2))
            .values_list("title", "a")
            .order_by("b")
            .filter(pages=value)
        ),
    ],
)
def test_a_value_that_equals_a_constant_is_not_taken_for_it(build):
    """The first query of a shape looks for the constant: which of the two is which?"""
    for value in (1, 2, 3):
        assert outcome(build(value)) == upstream(build(value))


def test_true_is_not_a_list_of_one():
    """One shape for both would give rows of another value."""
    flag, numbers = (User.objects.filter(is_active=True).query for _ in range(2))
    numbers.where.children[0].rhs = [1]
    assert shape_of(flag).key != shape_of(numbers).key


def test_values_of_every_kind(compilations):
    now = datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
    for day in range(1, 4):
        users = User.objects.filter(date_joined__lt=now.replace(day=day), is_active=True)
        assert outcome(users) == upstream(users)
    for flag in (True, False):
        users = User.objects.filter(is_active=flag)
        assert outcome(users) == upstream(users)
    permissions = Permission.objects.filter(content_type__app_label="auth").order_by()
    assert outcome(permissions) == upstream(permissions)
    for value in (decimal.Decimal("1.0"), 1.5, "7", uuid.UUID(int=1).int):
        authors = Author.objects.filter(Q(born=value) | Q(name=str(value)))
        assert outcome(authors) == upstream(authors)


def test_no_more_are_kept_than_a_limit(monkeypatch):
    monkeypatch.setattr(kept, "MAX_KEPT", 5)
    for start in range(20):
        list(Author.objects.all()[start : start + 1])
        assert len(kept._kept) <= 5


def test_what_is_kept_has_no_value_of_a_query():
    secret = "what nobody else may see"
    list(Author.objects.filter(name=secret, name__in=[secret, "x"]))
    [[key, entry]] = kept._kept.items()
    found = [repr(key), *(repr(getattr(entry, name)) for name in kept.Compiled.__slots__)]
    assert entry.placeholders
    assert not any(secret in each for each in found)


def test_another_database_under_the_same_alias(monkeypatch):
    """A copy of a connection, as migrations and tests make one, has settings of its own."""
    author = Author.objects.filter(pk=1)
    first = outcome(author)
    other = connection.copy()
    compiler = author.query.get_compiler(connection=other)
    assert compiler.as_sql()[0] == first[0]
    [entry] = kept._kept.values()
    assert entry.settings is other.settings_dict
    other.close()


def test_threads_share_what_is_kept(compilations):
    barrier = threading.Barrier(4)
    results = []

    def ask(number):
        barrier.wait()
        results.append(outcome(Author.objects.filter(pk=number))[1][0][1])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(4))
    assert 1 <= len(compilations) <= 4
