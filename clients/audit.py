"""The audit log's entries: who did what to what, when, from where, before and after. They are added, never changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from auditlog.models import AbstractLogEntry, LogEntryManager
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import capfirst

from clients.append_only import SAYS, unlocked
from pricing import actors, audit
from pricing.actors import Door

_held: ContextVar["list[AuditEntry] | None"] = ContextVar("held", default=None)


class Change(NamedTuple):
    """A field, before and after, as people read it; '' where there was or is nothing."""

    field: str
    before: str
    after: str


class AppendOnlyEntries(models.QuerySet["AuditEntry"]):
    """Entries; there is no way to change or delete one. (The database refuses it as well, see clients.append_only.)"""

    def create(self, **fields: Any) -> "AuditEntry":
        """Add an entry, with who acts now; inside `at_once`, at its end."""
        actor = actors.present()
        entry = AuditEntry(
            **{
                "door": actor.door,
                "by": str(actor)[:200],
                "actor": actor.user,
                "actor_email": actor.user.email if actor.user else None,
                "remote_addr": actor.address,
                **fields,
            }
        )
        held = _held.get()
        if held is None:
            entry.save(force_insert=True, using=self.db)
        else:
            held.append(entry)
        return entry

    def update(self, **fields: Any) -> NoReturn:
        """Raise TypeError."""
        raise TypeError(SAYS)

    def delete(self) -> NoReturn:
        """Raise TypeError."""
        raise TypeError(SAYS)

    def bulk_update(self, *args: Any, **options: Any) -> NoReturn:
        """Raise TypeError."""
        raise TypeError(SAYS)


class AuditEntries(LogEntryManager.from_queryset(AppendOnlyEntries)):  # type: ignore[misc]  # auditlog ships no types
    """Adds entries; auditlog calls it for every change of a model that is tracked."""

    def log_create(self, instance: models.Model, force_log: bool = False, **fields: Any) -> Any:
        """Add an entry about `instance`, with the client whom it concerns."""
        fields.setdefault("client_id", client_id_of(instance))
        if fields.get("changes"):
            fields["changes"] = audit.in_words(instance, fields["changes"])
        return super().log_create(instance, force_log=force_log, **fields)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Add all entries of the block at its end, in a number of statements that hardly grows with theirs."""
        if _held.get() is not None:  # the outer block adds these as well
            yield
            return
        held: list[AuditEntry] = []
        token = _held.set(held)
        try:
            yield
        finally:
            _held.reset(token)
        self.bulk_create(held, batch_size=500)

    def log_m2m_changes(
        self, changed_queryset: Any, instance: models.Model, operation: str, field_name: str, **fields: Any
    ) -> Any:
        """Add an entry about what `instance` was connected with, with the client whom it concerns."""
        fields.setdefault("client_id", client_id_of(instance))
        return super().log_m2m_changes(changed_queryset, instance, operation, field_name, **fields)


class AuditEntry(AbstractLogEntry):  # type: ignore[misc]  # auditlog ships no types
    """One act of one actor on one object. It outlives both: nothing is set to NULL when they go."""

    content_type = models.ForeignKey(ContentType, models.PROTECT, related_name="+", verbose_name="kind")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, null=True, related_name="+", db_constraint=False
    )
    client = models.ForeignKey(
        "clients.Client",
        models.DO_NOTHING,
        null=True,
        related_name="+",
        db_constraint=False,
        help_text="The client whom it concerns.",
    )
    timestamp = models.DateTimeField("when", default=timezone.now, db_index=True)
    actor_email = models.CharField("e-mail", max_length=254, null=True)  # noqa: DJ001 - as auditlog has it
    remote_addr = models.GenericIPAddressField("address", null=True)
    door = models.CharField("through", max_length=10, choices=Door)
    by = models.CharField("who", max_length=200, help_text="The name then: of a person, or of a command.")
    event = models.CharField(max_length=60, blank=True, help_text="An act that is more than a change of fields.")

    objects = AuditEntries()

    class Meta:
        ordering = ["-timestamp", "-id"]
        get_latest_by = "timestamp"
        verbose_name = "audit log entry"
        verbose_name_plural = "audit log entries"

    def __str__(self) -> str:
        return f"{self.by} {self.what}"

    @property
    def what(self) -> str:
        """What was done to what: `changed client Acme`, `signed in as ana`."""
        named = self.object_repr.lower().startswith(self.kind.lower())  # as `statement 7` is
        return f"{self.act} {self.object_repr}" if self.event or named else f"{self.act} {self.kind} {self.object_repr}"

    @property
    def act(self) -> str:
        """What was done, in the past tense; an event tells the kind of its object itself."""
        return self.event or {0: "created", 1: "changed", 2: "deleted"}.get(self.action, "saw")

    @property
    def kind(self) -> str:
        """What kind of thing it was done to: `client`, `API key`."""
        model = self.content_type.model_class()
        return str(model._meta.verbose_name) if model else str(self.content_type.model)

    def told_changes(self) -> list[Change]:
        """Return what changed, by name; times in the current time zone, which they tell."""
        told = []
        for name, change in sorted((self.changes or {}).items()):
            if isinstance(change, dict):  # of a many-to-many field
                those = ", ".join(map(str, change.get("objects", ())))
                added = change.get("operation") == "add"
                before, after = ("", those) if added else (those, "")
            else:
                before, after = (self._told(name, value) for value in change)
            if before or after:
                told.append(Change(self._label(name), before, after))
        return told

    def save(self, *args: Any, **options: Any) -> None:
        """Add the entry. Raises TypeError where it is there already."""
        if not self._state.adding:
            raise TypeError(SAYS)
        super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> NoReturn:
        """Raise TypeError."""
        raise TypeError(SAYS)

    def _field(self, name: str) -> Any:
        model = self.content_type.model_class()
        try:
            return model._meta.get_field(name) if model else None
        except FieldDoesNotExist:  # it has gone since, or is a detail of an event
            return None

    def _label(self, name: str) -> str:
        field = self._field(name)
        return str(capfirst(getattr(field, "verbose_name", name.replace("_", " "))))

    def _told(self, name: str, value: Any) -> str:
        if value is None or value == "":
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, str) and isinstance(self._field(name), models.DateTimeField):
            moment = datetime.fromisoformat(value)
            return str(date_format(timezone.localtime(moment), "DATETIME_FORMAT"))
        return str(value)


def client_id_of(row: models.Model) -> int | None:
    """Return the id of the client whom a row concerns: itself, its limit's, its key's; None where it is no client's."""
    if row._meta.label_lower == "clients.client":
        return row.pk  # type: ignore[no-any-return]
    found: int | None = getattr(row, "client_id", None)
    if found is None and getattr(row, "key_id", None) is not None:
        found = getattr(row.key, "client_id", None)  # type: ignore[attr-defined]
    return found


def entries_about(row: models.Model) -> QuerySet[AuditEntry]:
    """Return what the log holds about `row` and its parts, the newest first; of a client, all that concerns it."""
    about = _of(type(row), object_id=row.pk)
    if row._meta.label_lower == "clients.client":
        about |= Q(client_id=row.pk)
    for part, whole in audit.parts_of(type(row)):
        about |= _of(part, object_id__in=part._base_manager.filter(**{whole: row}).values("pk"))
    entries: QuerySet[AuditEntry] = AuditEntry.objects.filter(about).select_related("content_type", "client")
    return entries


def prune(before: datetime) -> int:
    """Delete the entries from before that moment, and return how many: the one way in which entries go."""
    with unlocked(AuditEntry._meta.db_table):
        old: QuerySet[AuditEntry] = models.QuerySet(AuditEntry).filter(timestamp__lt=before)
        count = old._raw_delete(old.db)
    those = f"{count:,} entries from before {before:%Y-%m-%d}"
    audit.log_event(AuditEntry(), "deleted", object_pk="", object_repr=those)
    return count


def _of(model: type[models.Model], **rows: Any) -> Q:
    return Q(content_type=ContentType.objects.get_for_model(model), **rows)
