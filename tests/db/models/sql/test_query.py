"""`COUNT(*)`: one expression for all counts, which no query changes."""

from django.db import connection
from django.db.models import Count
from django.db.models.sql import query
from django.test.utils import CaptureQueriesContext
from testapp.models import Author, Book


def test_counts_share_one_expression():
    assert query.Count("*") is query.Count("*")
    assert query.Count("*") == Count("*")
    assert hash(query.Count("*")) == hash(Count("*"))
    for arguments in (("pk",), ("*", None)):
        assert query.Count(*arguments) is not query.Count(*arguments)
    assert query.Count("pk", distinct=True) == Count("pk", distinct=True)


def test_no_query_changes_it(db):
    before = dict(vars(query.Count("*")))
    author = Author.objects.create(name="a")
    Book.objects.bulk_create(Book(title=title, author=author) for title in "xyy")
    counts = [
        Book.objects.count(),
        Book.objects.filter(title="y").count(),
        Book.objects.values("title").distinct().count(),
        Book.objects.all()[:2].count(),
        Book.objects.none().count(),
        Author.objects.annotate(written=Count("books")).filter(written=3).count(),
        Book.objects.filter(title="x").union(Book.objects.filter(title="y")).count(),
        Author.objects.aggregate(all=Count("*"))["all"],
    ]
    assert counts == [3, 2, 2, 2, 0, 1, 3, 1]
    assert vars(query.Count("*")) == before


def test_it_is_the_sql_that_django_makes(db, monkeypatch):
    with CaptureQueriesContext(
        connection,
    ) as ours:
        Book.objects.filter(title="y").count()
        Book.objects.all()[:2].count()
    monkeypatch.setattr(query, "Count", Count)
    with CaptureQueriesContext(connection) as theirs:
        Book.objects.filter(title="y").count()
        Book.objects.all()[:2].count()
    assert [each["sql"] for each in ours] == [each["sql"] for each in theirs]
