"""The admin in a browser, served by ASGI inside the transaction of a TestCase."""

import os
from contextlib import contextmanager

import browsers
import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import TestCase, override_settings
from django.urls import path, reverse
from testapp.models import Author, Book

from django_aio.test import ASGIStaticLiveServerTestCase

MISSING = browsers.why_no_browser()
SECONDS = 30  # until a page must have come; a loaded machine is slow

pytestmark = [
    pytest.mark.usefixtures("_database"),
    # In continuous integration what is missing is an error: the import below raises it.
    pytest.mark.skipif(bool(MISSING) and not os.environ.get("REQUIRE_SERVERS"), reason=MISSING),
]

site = admin.AdminSite()


class Books(admin.TabularInline):
    model = Book
    fields = ("title", "pages")
    extra = 1


@admin.register(Author, site=site)
class AuthorAdmin(admin.ModelAdmin):
    inlines = (Books,)
    list_display = ("name", "born")
    list_filter = ("born",)
    search_fields = ("name",)
    actions = ("make_older",)

    @admin.action(description="Make older")
    def make_older(self, request, queryset):
        queryset.update(born=1700)
        self.message_user(request, "They are older now.")


urlpatterns = [path("admin/", site.urls)]


@override_settings(ROOT_URLCONF=__name__, STATIC_URL="/static/")
class Browser(ASGIStaticLiveServerTestCase, TestCase):
    @classmethod
    def setUpClass(cls):
        from selenium.webdriver import Chrome, ChromeOptions

        browsers.settle_driver()
        options = browsers.settle_options(ChromeOptions())
        options.add_argument("--headless=new")
        options.add_argument("--window-size=1280,1024")
        cls.browser = Chrome(options=options)
        cls.addClassCleanup(cls.browser.quit)
        super().setUpClass()

    @classmethod
    def setUpTestData(cls):
        cls.user = User.objects.create_superuser("ada", password="secret")
        cls.austen = Author.objects.create(name="Jane Austen", born=1775)
        cls.poe = Author.objects.create(name="Edgar Allan Poe", born=1809)

    def setUp(self):
        self.browser.delete_all_cookies()

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def texts(self, selector):
        return [each.text for each in self.browser.find_elements("css selector", selector)]

    @contextmanager
    def next_page(self):
        """Wait for the page that what is done inside leads to."""
        from selenium.webdriver.support.expected_conditions import staleness_of
        from selenium.webdriver.support.wait import WebDriverWait

        page = self.find("html")
        yield
        wait = WebDriverWait(self.browser, SECONDS)
        wait.until(staleness_of(page))
        wait.until(
            lambda browser: browser.execute_script("return document.readyState") == "complete"
        )

    def open(self, name, *args):
        self.browser.get(self.live_server_url + reverse(f"admin:{name}", args=args))

    def log_in(self, to="testapp_author_changelist"):
        self.open(to)
        self.find("#id_username").send_keys("ada")
        self.find("#id_password").send_keys("secret")
        with self.next_page():
            self.find("[type=submit]").click()

    def test_log_in_and_out(self):
        self.log_in("index")
        assert "ADA" in self.find("#user-tools").text.upper()
        self.user.refresh_from_db()
        assert self.user.last_login is not None
        with self.next_page():
            self.find("#logout-form button").click()
        self.open("index")
        assert self.find("#id_username").is_displayed()

    def test_static_files(self):
        """The style sheet and the scripts have come: the page has a layout, and jQuery."""
        self.log_in("testapp_author_add")
        assert self.browser.execute_script("return typeof django.jQuery") == "function"
        assert self.find("#header").value_of_css_property("display") == "flex"

    def test_change_list_with_a_filter(self):
        self.log_in()
        assert self.texts("#result_list th.field-name") == ["Edgar Allan Poe", "Jane Austen"]
        with self.next_page():
            self.find("#changelist-filter a[href='?born=1775']").click()
        assert self.texts("#result_list th.field-name") == ["Jane Austen"]

    def test_add_with_an_inline(self):
        self.log_in("testapp_author_add")
        self.find("#id_name").send_keys("Mary Shelley")
        self.find("#id_books-0-title").send_keys("Frankenstein")
        self.find(".inline-group .add-row a").click()
        self.find("#id_books-1-title").send_keys("The Last Man")
        with self.next_page():
            self.find("[name=_save]").click()
        assert "Mary Shelley" in self.find(".messagelist .success").text
        shelley = Author.objects.get(name="Mary Shelley")
        assert sorted(book.title for book in shelley.books.all()) == [
            "Frankenstein",
            "The Last Man",
        ]

    def test_a_form_that_is_not_valid(self):
        self.log_in("testapp_author_add")
        self.find("#id_name").send_keys(self.poe.name)
        with self.next_page():
            self.find("[name=_save]").click()
        assert self.texts(".errorlist li") == ["Author with this Name already exists."]
        assert Author.objects.count() == 2

    def test_action(self):
        self.log_in()
        self.find(f"input.action-select[value='{self.poe.pk}']").click()
        self.find("select[name=action] option[value=make_older]").click()
        with self.next_page():
            self.find("[name=index]").click()
        assert self.texts(".messagelist li") == ["They are older now."]
        born = Author.objects.values_list("name", "born")
        assert dict(born) == {"Jane Austen": 1775, "Edgar Allan Poe": 1700}

    def test_delete(self):
        Book.objects.create(title="Emma", author=self.austen)
        self.log_in()
        self.open("testapp_author_delete", self.austen.pk)
        assert "Emma" in self.find("#content").text
        with self.next_page():
            self.find("#content [type=submit]").click()
        assert list(Author.objects.all()) == [self.poe]
        assert not Book.objects.exists()
