"""The admin of the atlas."""

from __future__ import annotations

from django.contrib import admin

from .models import City, Country, Note


@admin.register(Country)
class CountryAdmin(admin.ModelAdmin):
    list_display = ("name", "code", "continent", "capital_name", "population", "area")
    list_filter = ("continent",)
    list_select_related = ("continent",)
    search_fields = ("name", "code")
    autocomplete_fields = ("capital",)
    filter_horizontal = ("neighbours",)


@admin.register(City)
class CityAdmin(admin.ModelAdmin):
    list_display = ("name", "country", "population", "timezone")
    list_filter = ("country__continent",)
    list_select_related = ("country",)
    search_fields = ("name", "search")
    autocomplete_fields = ("country",)


@admin.register(Note)
class NoteAdmin(admin.ModelAdmin):
    list_display = ("__str__", "city", "author", "created_at")
    list_select_related = ("city", "author")
    list_filter = ("created_at",)
    date_hierarchy = "created_at"
    search_fields = ("text", "city__name")
    autocomplete_fields = ("city", "author")
    readonly_fields = ("created_at",)
