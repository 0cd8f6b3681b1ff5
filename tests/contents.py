"""What is in the database before a test, and how it is put back after one.

`flush` does the same at the price of the whole database: new files for all tables, and all content
types and permissions made again. A test changes few tables.
"""

from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.db import connection, transaction

SEQUENCES = "SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences"


class Contents:
    """The rows of all tables, and what their sequences have given."""

    def __init__(self):
        names = connection.introspection.django_table_names(only_existing=True)
        self.tables = [connection.ops.quote_name(name) for name in names]
        if connection.vendor == "sqlite":
            self.tables.append("sqlite_sequence")
        with connection.cursor() as cursor:
            self.rows, self.sequences = self._look(cursor)

    def restore(self):
        """Put back what has changed. Waits, as `flush` does, for every transaction that is open."""
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(f"LOCK TABLE {', '.join(self.tables)}")
            rows, sequences = self._look(cursor)
            changed = [table for table in self.tables if rows[table] != self.rows[table]]
            for table in changed:
                cursor.execute(f"DELETE FROM {table}")
            for table in filter(self.rows.get, changed):
                places = ", ".join(["%s"] * len(self.rows[table][0]))
                cursor.executemany(f"INSERT INTO {table} VALUES ({places})", self.rows[table])
            for name, last in self.sequences.items():
                if sequences[name] != last:
                    cursor.execute("SELECT setval(%s, %s, %s)", [name, last or 1, last is not None])
        ContentType.objects.clear_cache()
        Site.objects.clear_cache()

    def _look(self, cursor):
        """The rows of each table, and of each sequence that is no table the last value."""
        statements = [f"SELECT * FROM {table} ORDER BY 1" for table in self.tables]
        if connection.vendor != "postgresql":
            found = [cursor.execute(statement).fetchall() for statement in statements]
            return dict(zip(self.tables, found, strict=True)), {}
        cursor.execute("; ".join([*statements, SEQUENCES]))  # asks the server once
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
        return dict(zip(self.tables, found[:-1], strict=True)), dict(found[-1])
