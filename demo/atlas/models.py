"""Continents, countries, cities and the notes that people leave on cities."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.conf.locale import LANG_INFO
from django.db import models
from django.urls import reverse

from .names import normalized, search_text


class Continent(models.Model):
    """One of the seven, with the code that GeoNames gives it."""

    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=40)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Country(models.Model):
    """A country or territory with an ISO code of its own."""

    code = models.CharField("ISO code", max_length=2, primary_key=True)
    name = models.CharField(max_length=80, db_index=True)
    continent = models.ForeignKey(Continent, models.PROTECT)
    capital = models.ForeignKey(
        "City", models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    capital_name = models.CharField(max_length=80, blank=True)
    population = models.PositiveBigIntegerField()
    area = models.PositiveIntegerField("area in km²")
    currency_code = models.CharField(max_length=3, blank=True)
    currency_name = models.CharField(max_length=40, blank=True)
    languages = models.CharField(max_length=120, blank=True, help_text="codes, with commas")
    neighbours = models.ManyToManyField("self", blank=True)

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "countries"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("atlas:country", args=[self.pk])

    @property
    def density(self) -> float | None:
        """People per km², where both are known."""
        return self.population / self.area if self.area and self.population else None

    @property
    def language_names(self) -> str:
        """The languages that Django has a name for, and how many more there are."""
        codes = {code.partition("-")[0]: None for code in self.languages.split(",") if code}
        names = [LANG_INFO[code]["name"] for code in codes if "name" in LANG_INFO.get(code, {})]
        others = len(codes) - len(names)
        if not names:
            return ", ".join(codes)
        return ", ".join(names) + (f" and {others} more" if others else "")


class CityQuerySet(models.QuerySet["City"]):
    """Questions about cities that more than one page asks."""

    def listed(self) -> CityQuerySet:
        """With their countries, without the long columns that no list shows."""
        return self.select_related("country").defer("alternate_names", "search")

    def matching(self, query: str) -> CityQuerySet:
        """Cities with a name in which a word begins with `query`.

        Those whose first name does so come first, the largest of them on top.
        """
        words = f" {normalized(query)}"
        called = models.Case(models.When(search__startswith=words, then=0), default=1)
        return self.filter(search__contains=words).order_by(called, "-population", "pk")


class City(models.Model):
    """A city of GeoNames, under its number there."""

    id = models.PositiveIntegerField("GeoNames number", primary_key=True)
    name = models.CharField(max_length=80)
    # The index of (country, population) below serves look-ups by country too.
    country = models.ForeignKey(Country, models.CASCADE, related_name="cities", db_index=False)
    population = models.PositiveIntegerField(db_index=True)
    latitude = models.FloatField()
    longitude = models.FloatField()
    timezone = models.CharField(max_length=40)
    alternate_names = models.JSONField(default=list, blank=True)
    search = models.TextField(editable=False)

    objects = CityQuerySet.as_manager()

    class Meta:
        ordering = ("-population",)
        verbose_name_plural = "cities"
        indexes = (models.Index(fields=["country", "-population"], name="city_of_country"),)

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Keep what the search looks at in step with the names."""
        self.search = search_text([self.name, *self.alternate_names])
        super().save(*args, **kwargs)

    def get_absolute_url(self) -> str:
        return reverse("atlas:city", args=[self.pk])

    @property
    def position(self) -> str:
        """Latitude and longitude as an atlas prints them."""
        north = f"{abs(self.latitude):.2f}° {'N' if self.latitude >= 0 else 'S'}"
        return f"{north}, {abs(self.longitude):.2f}° {'E' if self.longitude >= 0 else 'W'}"


class Note(models.Model):
    """What somebody has to say about a city."""

    MAX_LENGTH = 280

    city = models.ForeignKey(City, models.CASCADE, related_name="notes")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    text = models.TextField(max_length=MAX_LENGTH)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ("-created_at", "-pk")

    def __str__(self) -> str:
        return self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
