"""Database triggers that let rows be added to a table, and nothing else be done to them, whoever tries and however."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

SAYS: Final = "Entries of the audit log are never changed or deleted."
STATEMENTS_SAY: Final = "Statements are never changed or deleted: the next one has what is to be put right."


class AppendOnly(Operation):
    """Refuse every UPDATE and DELETE (on PostgreSQL TRUNCATE too) on `table_name`.

    Running it again replaces the triggers, and that is needed: on SQLite, Django alters a table by making it anew,
    which drops its triggers. Repeat the operation after any such migration; a test looks for the triggers.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, table_name: str, says: str = SAYS) -> None:
        self.table_name, self.says = table_name, says

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: models do not know of triggers."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Create the triggers, replacing those there."""
        vendor = schema_editor.connection.vendor
        for statement in [*_dropping(vendor, self.table_name), *_creating(vendor, self.table_name, self.says)]:
            schema_editor.execute(statement)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Drop the triggers.

        Raises NotSupportedError on a database other than SQLite and PostgreSQL.
        """
        for statement in _dropping(schema_editor.connection.vendor, self.table_name):
            schema_editor.execute(statement)

    def describe(self) -> str:
        """Return the line that `migrate` prints."""
        return f"Let rows be added to {self.table_name} only"

    @property
    def migration_name_fragment(self) -> str:
        """Return the operation's part of an automatic migration name."""
        return f"append_only_{self.table_name}"


@contextmanager
def unlocked(table_name: str, using: str = DEFAULT_DB_ALIAS, says: str = SAYS) -> Iterator[None]:
    """Let the block change and delete rows, in one transaction at whose end the triggers are back for all."""
    connection = connections[using]
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for statement in _dropping(connection.vendor, table_name):
            cursor.execute(statement)
        yield
        for statement in _creating(connection.vendor, table_name, says):
            cursor.execute(statement)


def _creating(vendor: str, table: str, says: str) -> list[str]:
    if vendor == "sqlite":
        return [
            f'CREATE TRIGGER "{table}_no_{event}" BEFORE {event.upper()} ON "{table}" '
            f"BEGIN SELECT RAISE(ABORT, '{says}'); END"
            for event in ("update", "delete")
        ]
    return [
        f'CREATE FUNCTION "{table}_append_only"() RETURNS trigger LANGUAGE plpgsql AS '
        f"$$ BEGIN RAISE EXCEPTION '{says}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        f'CREATE TRIGGER "{table}_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "{table}" '
        f'FOR EACH STATEMENT EXECUTE FUNCTION "{table}_append_only"()',
    ]


def _dropping(vendor: str, table: str) -> list[str]:
    if vendor == "sqlite":
        return [f'DROP TRIGGER IF EXISTS "{table}_no_{event}"' for event in ("update", "delete")]
    if vendor == "postgresql":
        return [
            f'DROP TRIGGER IF EXISTS "{table}_append_only" ON "{table}"',
            f'DROP FUNCTION IF EXISTS "{table}_append_only"()',
        ]
    raise NotSupportedError(f"No triggers for {vendor}: use SQLite or PostgreSQL.")
