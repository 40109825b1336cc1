"""Database triggers that count every change of the configuration, whoever makes it and however.

The data plane compares one number with the one it loaded; `queryset.update()`, bulk writes and raw SQL move it too.
Tables that are written per call must not be watched.
"""

from django.db import NotSupportedError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

COUNTER_TABLE = "pricing_configversion"

# Both bring the row back should it be lost. Two statements on SQLite: there an outer INSERT OR IGNORE would overrule
# the upsert's own clause. One on PostgreSQL: there two transactions may count at once.
_SQLITE_COUNT = f"""
    INSERT INTO {COUNTER_TABLE} (id, version)
        SELECT 1, 0 WHERE NOT EXISTS (SELECT 1 FROM {COUNTER_TABLE} WHERE id = 1);
    UPDATE {COUNTER_TABLE} SET version = version + 1 WHERE id = 1;
"""  # noqa: S608 - a constant of ours
_POSTGRESQL_COUNT = f"""
    INSERT INTO {COUNTER_TABLE} AS counter (id, version) VALUES (1, 1)
        ON CONFLICT (id) DO UPDATE SET version = counter.version + 1;
"""  # noqa: S608 - a constant of ours
_SQLITE_EVENTS = ("insert", "update", "delete")


class WatchTable(Operation):
    """Make every INSERT, UPDATE and DELETE (on PostgreSQL TRUNCATE too) on `table_name` move ConfigVersion up.

    The migration must come after pricing.0001_initial. Running it again replaces the triggers, and that is needed: on
    SQLite, Django alters a table by making it anew, which drops its triggers. Put `WatchTableAgain` around any such
    migration; a test compares the triggers with the tables.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, table_name: str) -> None:
        self.table_name = table_name

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: models do not know of triggers."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Create the triggers, replacing those there."""
        self._create(schema_editor)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Drop the triggers.

        Raises NotSupportedError on a database other than SQLite and PostgreSQL.
        """
        self._drop(schema_editor)

    def _create(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        self._drop(schema_editor)
        table = self.table_name
        if schema_editor.connection.vendor == "sqlite":
            for event in _SQLITE_EVENTS:
                schema_editor.execute(
                    f'CREATE TRIGGER "{table}_watch_{event}" AFTER {event.upper()} ON "{table}" '
                    f"BEGIN {_SQLITE_COUNT} END"
                )
        else:
            schema_editor.execute(
                f'CREATE FUNCTION "{table}_watch"() RETURNS trigger LANGUAGE plpgsql AS '
                f"$$ BEGIN {_POSTGRESQL_COUNT} RETURN NULL; END $$"
            )
            # For each statement: one that changes 10,000 rows counts once.
            schema_editor.execute(
                f'CREATE TRIGGER "{table}_watch" AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON "{table}" '
                f'FOR EACH STATEMENT EXECUTE FUNCTION "{table}_watch"()'
            )

    def _drop(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        table = self.table_name
        if schema_editor.connection.vendor == "sqlite":
            for event in _SQLITE_EVENTS:
                schema_editor.execute(f'DROP TRIGGER IF EXISTS "{table}_watch_{event}"')
        elif schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f'DROP TRIGGER IF EXISTS "{table}_watch" ON "{table}"')
            schema_editor.execute(f'DROP FUNCTION IF EXISTS "{table}_watch"()')
        else:
            raise NotSupportedError(f"No triggers for {schema_editor.connection.vendor}: use SQLite or PostgreSQL.")

    def describe(self) -> str:
        """Return the line that `migrate` prints."""
        return f"Count changes of {self.table_name} in ConfigVersion"

    @property
    def migration_name_fragment(self) -> str:
        """Return the operation's part of an automatic migration name."""
        return f"watch_{self.table_name}"


class WatchTableAgain(WatchTable):
    """Put the triggers back, forwards and backwards, where a migration alters a table that is watched already.

    Last among the operations it mends the way forwards, first among them the way back: a migration needs both.
    """

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Create the triggers, replacing those there: the migrations that remain want them."""
        self._create(schema_editor)

    def describe(self) -> str:
        """Return the line that `migrate` prints."""
        return f"Go on counting changes of {self.table_name} in ConfigVersion"
