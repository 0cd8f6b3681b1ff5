"""`FileSystemStorage.url()`: made once for a name and a base URL, and what Django makes."""

import pathlib

import pytest
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, StaticFilesStorage
from django.core.files.storage import FileSystemStorage
from django.core.files.storage import filesystem as upstream
from django.test import override_settings
from django.utils.safestring import mark_safe

from django_aio.speedups import static_urls


@pytest.fixture
def joins(monkeypatch):
    """The names that Django has made a URL of."""
    found = []
    urljoin = upstream.urljoin

    def recorded(base, name):
        found.append(name)
        return urljoin(base, name)

    monkeypatch.setattr(upstream, "urljoin", recorded)
    return found


@pytest.mark.parametrize(
    "name",
    ["a.css", mark_safe("a b/<ä>.css"), "/a//b.css", "a\\b?c#d", "", "http://a/b", "../a"],
)
@pytest.mark.parametrize("base", ["/static/", "https://cdn.example/s/", ""])
def test_it_is_the_url_that_django_makes(name, base):
    storage = FileSystemStorage(base_url=base)
    expected = FileSystemStorage.url.__wrapped__(storage, name)
    for _ in range(3):
        found = storage.url(name)
        assert (type(found), found) == (type(expected), expected)


def test_it_is_made_once(joins):
    storage = FileSystemStorage(base_url="/media/")
    for _ in range(3):
        assert storage.url("a.txt") == storage.url(mark_safe("a.txt")) == "/media/a.txt"
        assert storage.url("b.txt") == "/media/b.txt"
    assert joins == ["a.txt", "b.txt"]


def test_names_that_are_paths(joins):
    storage = FileSystemStorage(base_url="/media/")
    for _ in range(2):
        assert storage.url(pathlib.PurePosixPath("a/b.txt")) == "/media/a/b.txt"
        assert storage.url(None) == "/media/"
    assert joins == ["a/b.txt", None] * 2


def test_without_a_base_url_it_is_an_error_every_time():
    class Private(FileSystemStorage):
        base_url = None

    for _ in range(2):
        with pytest.raises(ValueError, match="not accessible via a URL"):
            Private().url("a.txt")


def test_another_setting_another_url():
    storage = FileSystemStorage()
    for media, expected in (("/one/", "/one/a"), ("/two/", "/two/a"), ("/one/", "/one/a")):
        with override_settings(MEDIA_URL=media):
            assert storage.url("a") == expected


def test_static_files_of_a_manifest(tmp_path):
    (tmp_path / "staticfiles.json").write_text(
        '{"version": "1.1", "paths": {"a.css": "a.123.css"}, "hash": "1"}'
    )
    with override_settings(STATIC_URL="/static/", DEBUG=False):
        hashed = ManifestStaticFilesStorage(location=tmp_path)
        plain = StaticFilesStorage(location=tmp_path)
        for _ in range(2):
            assert hashed.url("a.css") == "/static/a.123.css"
            assert plain.url("a.css") == "/static/a.css"
        hashed.hashed_files["a.css"] = "a.456.css"
        assert hashed.url("a.css") == "/static/a.456.css"


def test_no_more_are_kept_than_a_limit(monkeypatch):
    monkeypatch.setattr(static_urls, "MOST", 3)
    storage = FileSystemStorage(base_url="/media/")
    for number in range(10):
        assert storage.url(f"{number}.txt") == f"/media/{number}.txt"
        assert len(vars(storage)[static_urls.MADE]) <= 3
