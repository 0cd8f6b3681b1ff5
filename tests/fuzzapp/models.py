"""Models for `fuzz_sql.py`: all kinds of values, relations and inheritance, and own lookups."""

from django.db import models
from django.db.models import lookups


class Loud(models.CharField):
    """A field that prepares its values, and has a lookup of its own for a name of Django's."""

    def get_prep_value(self, value):
        value = super().get_prep_value(value)
        return value.upper() if isinstance(value, str) else value


@Loud.register_lookup
class LoudExact(lookups.Exact):
    """Makes its SQL of the value."""

    def as_sql(self, compiler, connection):
        sql, params = super().as_sql(compiler, connection)
        return (f"{sql} /* {len(str(self.rhs))} */" if self.rhs else sql), params


@models.Field.register_lookup
class NotEqual(models.Lookup):
    lookup_name = "ne"

    def as_sql(self, compiler, connection):
        lhs, lhs_params = self.process_lhs(compiler, connection)
        rhs, rhs_params = self.process_rhs(compiler, connection)
        return f"{lhs} <> {rhs}", [*lhs_params, *rhs_params]


@models.IntegerField.register_lookup
class Divides(models.Transform):
    """A transform with a parameter."""

    lookup_name = "half"

    def as_sql(self, compiler, connection):
        lhs, params = compiler.compile(self.lhs)
        return f"{lhs} / %s", [*params, 2]


class Label(models.Model):
    text = models.CharField(max_length=20)

    class Meta:
        ordering = ("text",)


class Person(models.Model):
    name = models.CharField(max_length=20)
    nick = Loud(max_length=20)
    age = models.IntegerField()
    boss = models.ForeignKey("self", models.CASCADE, null=True)
    labels = models.ManyToManyField(Label)

    class Meta:
        ordering = ("-age", "name")


class Employee(Person):
    """A table of its own beside its parent's."""

    salary = models.DecimalField(max_digits=10, decimal_places=2)


class Senior(Employee):
    """The same table."""

    class Meta:
        proxy = True
        ordering = ("salary",)


class Item(models.Model):
    number = models.IntegerField()
    small = models.SmallIntegerField(db_column="tiny")
    text = models.TextField()
    flag = models.BooleanField()
    ratio = models.FloatField()
    day = models.DateField()
    moment = models.DateTimeField()
    length = models.DurationField()
    ident = models.UUIDField()
    data = models.BinaryField()
    facts = models.JSONField()
    owner = models.ForeignKey(Employee, models.CASCADE, related_name="items")
    by_name = models.ForeignKey(Label, models.SET_NULL, null=True, to_field="id")
