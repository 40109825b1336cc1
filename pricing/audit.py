"""The audit log's writing side, in the lowest layer because all layers write to it.

Entries (`clients.models.AuditEntry`) are added, with who acts (`pricing.actors`), and never changed.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

from auditlog import get_logentry_model
from auditlog.diff import model_instance_diff
from auditlog.registry import auditlog
from django.core.exceptions import FieldDoesNotExist
from django.db import models, transaction
from django.db.models import QuerySet

M = TypeVar("M", bound=models.Model)

HIDDEN: Final = "•••"
"""Stands for a secret that is there."""

Words = Callable[[Any, Any], str]
"""Says a value of a field as people do; gets the row and the value, which is not None."""

_words: dict[type[models.Model], Mapping[str, Words]] = {}
_wholes: dict[type[models.Model], str] = {}


def track(
    model: type[models.Model],
    *,
    part_of: str = "",
    hidden: tuple[str, ...] = (),
    left_out: tuple[str, ...] = (),
    many: tuple[str, ...] = (),
    words: Mapping[str, Words] | None = None,
) -> None:
    """Log every row of `model` that is made, saved or deleted, field by field, before and after.

    `part_of` is the foreign key to what a row is a part of, such as a limit's client: the history of that tells of the
    part, too. `hidden` fields are secrets: that they changed is logged, never what they are. `left_out` fields are not
    logged. `many` are many-to-many fields. `words` say what a stored value means.

    Its default manager is `Audited`, so that writes in bulk are logged as well; only raw SQL is not.
    """
    auditlog.register(
        model,
        include_fields=[
            field.name for field in model._meta.fields if not field.primary_key and field.name not in left_out
        ],
        mask_fields=list(hidden),
        mask_callable="pricing.audit.hide",
        m2m_fields=many,
    )
    _words[model] = words or {}
    if part_of:
        _wholes[model] = part_of


def tracked() -> list[type[models.Model]]:
    """Return the models whose rows are logged."""
    return list(_words)


def parts_of(model: type[models.Model]) -> list[tuple[type[models.Model], str]]:
    """Return the models whose rows are parts of rows of `model`, each with its foreign key to them."""
    return [(part, name) for part, name in _wholes.items() if part._meta.get_field(name).related_model is model]


class Audited(models.QuerySet[M]):
    """Rows of a tracked model, logged too when they are written in bulk, which sends no signals."""

    def update(self, **values: Any) -> int:
        """Update as Django does, and log it, all in one transaction. `bulk_update()` comes here as well."""
        entries = get_logentry_model().objects
        with transaction.atomic(using=self.db), entries.at_once():
            before = {row.pk: row for row in _with_names(self.order_by())}
            count = super().update(**values)
            for row in _with_names(self.model._base_manager.using(self.db).filter(pk__in=before)):
                changes = model_instance_diff(before[row.pk], row, use_json_for_changes=True)
                entries.log_create(row, action=entries.model.Action.UPDATE, changes=changes)
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[M], *args: Any, **options: Any) -> list[M]:
        """Make rows as Django does, and log it. Rows whose id the database does not tell are not logged."""
        entries = get_logentry_model().objects
        with transaction.atomic(using=self.db), entries.at_once():
            made = super().bulk_create(objs, *args, **options)
            for row in made:
                if row.pk is not None:
                    changes = model_instance_diff(None, row, use_json_for_changes=True)
                    entries.log_create(row, action=entries.model.Action.CREATE, changes=changes)
        return made

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete as Django does; what its signals log is written at the end, at once."""
        with transaction.atomic(using=self.db), get_logentry_model().objects.at_once():
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


def log_event(row: models.Model, event: str, changes: Mapping[str, Any] | None = None, **fields: Any) -> None:
    """Log something that happened to `row` and changed no field of it, such as `signed in as`; at most 60 characters.

    `changes` are details by name, each a pair of before and after. `fields` are further fields of the entry.
    """
    entries = get_logentry_model().objects
    entries.log_create(
        row, force_log=True, action=entries.model.Action.ACCESS, event=event, changes=dict(changes or {}), **fields
    )


def in_words(row: models.Model, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes as the log keeps them: choices by their labels, times in ISO 8601, amounts with their unit."""
    said: dict[str, Any] = {}
    for name, change in changes.items():
        if isinstance(change, Mapping):  # of a many-to-many field
            said[name] = change
        else:
            said[name] = [_say(row, name, value) for value in change]
    return said


def hide(text: str) -> str:
    """Return the stand-in of a secret, '' where there is none. auditlog calls it by name."""
    return "" if text in {"", "None"} else HIDDEN


def _say(row: models.Model, name: str, value: Any) -> Any:
    if value is None or value in ("", HIDDEN):
        return value
    try:
        field = row._meta.get_field(name)
    except FieldDoesNotExist:  # a detail of an event
        return value
    if words := _words.get(type(row), {}).get(name):
        return words(row, value)
    if isinstance(field, models.DateTimeField):  # auditlog's text of it is UTC, and does not say so
        return f"{datetime.fromisoformat(value):%Y-%m-%dT%H:%M:%SZ}"
    choices = dict(getattr(field, "flatchoices", ()))
    return str(choices.get(value, value)) if choices else value


def _with_names(rows: QuerySet[M]) -> QuerySet[M]:
    """Return rows with what their foreign keys lead to, as entries name that."""
    names = [field.name for field in rows.model._meta.fields if field.many_to_one or field.one_to_one]
    return rows.select_related(*names) if names else rows
