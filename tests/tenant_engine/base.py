"""A third party's engine, which keeps a tenant on the connection object, as several do."""

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    schema = "public"

    def set_schema(self, schema):
        self.schema = schema

    def _cursor(self, name=None):
        cursor = super()._cursor(name)
        with super()._cursor() as setting:
            setting.execute(f'SET search_path = "{self.schema}", public')
        return cursor
