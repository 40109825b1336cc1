"""Moments as numbers, in the database."""

from typing import Any

from django.db.models import BigIntegerField, Func


class Seconds(Func):
    """Whole seconds from 1970 to a moment."""

    output_field = BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Read the text that Django stores, its fraction cut off: SQLite would round it up, into the next day."""
        template = "CAST(strftime('%%%%s', substr(%(expressions)s, 1, 19)) AS INTEGER)"
        return self.as_sql(compiler, connection, template=template)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Leave fractions out."""
        return self.as_sql(compiler, connection, template="FLOOR(EXTRACT(EPOCH FROM %(expressions)s))::bigint")
