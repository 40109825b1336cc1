"""Who serves a call and what it costs: providers, models, prices, and the version of the configuration."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models import Q, TextChoices
from django.utils import timezone

from pricing import audit, credentials
from pricing.addresses import check_base_url
from pricing.quotes import DEFAULT_TIER, RateCard, card_at, microseconds
from pricing.rate_columns import RateColumns, rates_in_range

_HINT_LENGTH = 4
_SHORTEST_HINTED = 16  # of a shorter credential the last four would be too much of it
_SECONDS = [MinValueValidator(1)]
_DECIDES_SCOPE = {"owner", "owner_id", "billed_to_client"}
_NAME_TAKEN = "There is already a provider of that name."
SHARED = "shared"
"""The scope of what every client may use."""


class ProviderQuerySet(audit.Audited["Provider"]):
    """Providers, and what is done to many of them at once."""

    def reencrypt(self) -> int:
        """Encrypt every credential anew under the first of ENCRYPTION_KEYS; return how many, all or none.

        Raises credentials.UnreadableCredential where one cannot be decrypted with any of the keys.
        """
        with transaction.atomic(using=self.db):
            providers = list(self.exclude(credential_encrypted="").select_for_update())
            for provider in providers:
                provider.credential_encrypted = credentials.reencrypt(provider.credential_encrypted)
            self.bulk_update(providers, ["credential_encrypted"])
        return len(providers)

    def serving_clients_of(self, owner_id: int | None) -> "ProviderQuerySet":
        """Return the providers that clients of this operator (None: of nobody) may be given: shared or the operator's.

        Accounts of single clients are among them.
        """
        return self.filter(Q(owner=None) | Q(owner=owner_id))

    def update(self, **values: Any) -> int:
        """Update providers; where that changes whom they serve, their models' names follow.

        Raises IntegrityError where a name would then be there twice.
        """
        if not _DECIDES_SCOPE & values.keys():
            return super().update(**values)
        with transaction.atomic(using=self.db):
            changed = list(self.values_list("pk", flat=True))
            count = super().update(**values)
            for provider in self.model._default_manager.using(self.db).filter(pk__in=changed):
                provider.rescope_models()
        return count


class Provider(models.Model):
    """Where calls are sent: base URL, credential and timeouts (seconds); and whose calls.

    Shared by all clients, or of one operator and for that operator's clients, or a client's own account with a bill of
    its own, which serves only the clients it is given to.
    """

    class Kind(TextChoices):
        OPENAI = "openai", "OpenAI-compatible"
        SANDBOX = "sandbox", "Sandbox (answered by the gateway itself)"

    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=20, choices=Kind, default=Kind.OPENAI)
    base_url = models.CharField(
        "base URL",
        max_length=500,
        blank=True,
        help_text="Ends in the version: https://api.openai.com/v1. Blank for the sandbox.",
    )
    credential_encrypted = models.TextField(blank=True, editable=False)
    credential_hint = models.CharField(max_length=_HINT_LENGTH, blank=True, editable=False)
    # PROTECT: with SET_NULL the account of a colleague who leaves would serve everybody's clients from then on.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="providers",
        help_text="Whose clients it serves; empty: everybody's.",
    )
    billed_to_client = models.BooleanField(
        "client's own account",
        default=False,
        help_text="The provider bills a client, not you. It serves only clients that it is given to.",
    )
    connect_timeout = models.PositiveIntegerField(default=5, validators=_SECONDS, help_text="Seconds.")
    first_byte_timeout = models.PositiveIntegerField(default=600, validators=_SECONDS, help_text="Seconds.")
    idle_timeout = models.PositiveIntegerField(
        default=300, validators=_SECONDS, help_text="Seconds between two pieces of an answer."
    )
    total_timeout = models.PositiveIntegerField(
        default=1800, validators=_SECONDS, help_text="Seconds for a whole call."
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ProviderQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(name="provider_name_given", condition=~Q(name="")),
            models.UniqueConstraint(
                name="provider_name_once_shared",
                fields=["name"],
                condition=Q(owner=None),
                violation_error_message=_NAME_TAKEN,
            ),
            models.UniqueConstraint(
                name="provider_name_once_per_owner", fields=["owner", "name"], violation_error_message=_NAME_TAKEN
            ),
            models.CheckConstraint(
                name="provider_sandbox_shared",
                condition=~Q(kind="sandbox") | Q(owner__isnull=True, billed_to_client=False),
                violation_error_message="The sandbox is everybody's: it has no owner and bills nobody.",
            ),
            models.CheckConstraint(
                name="provider_base_url_by_kind",
                condition=(Q(kind="sandbox") & Q(base_url="")) | (Q(kind="openai") & ~Q(base_url="")),
                violation_error_message="The sandbox has no base URL, every other provider has one.",
            ),
            models.CheckConstraint(name="provider_base_url_no_slash", condition=~Q(base_url__endswith="/")),
            models.CheckConstraint(
                name="provider_hint_of_credential", condition=Q(credential_hint="") | ~Q(credential_encrypted="")
            ),
            models.CheckConstraint(
                name="provider_timeouts_positive",
                condition=Q(
                    connect_timeout__gte=1, first_byte_timeout__gte=1, idle_timeout__gte=1, total_timeout__gte=1
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the provider; where it now serves others, its models' names follow.

        Raises IntegrityError where one of them is taken there; `full_clean` says it in words.
        """
        new = self._state.adding
        with transaction.atomic(using=kwargs.get("using")):
            super().save(*args, **kwargs)
            if not new:
                self.rescope_models()

    @property
    def scope(self) -> str:
        """Whose calls the provider serves. In one scope a model's name is there once."""
        if self.billed_to_client:
            return f"account:{self.pk}"
        return SHARED if self.owner_id is None else f"owner:{self.owner_id}"

    def rescope_models(self) -> None:
        """Let the models be unique among those that serve the same calls."""
        self.models.exclude(scope=self.scope).update(scope=self.scope)

    def clean(self) -> None:
        """Refuse a base URL that leads to where a provider may not be, and names that are taken.

        Names are looked at here because a form without the field `owner` passes the constraints over.
        """
        super().clean()
        self.base_url = self.base_url.strip().rstrip("/")
        if Provider.objects.filter(owner=self.owner_id, name=self.name).exclude(pk=self.pk).exists():
            raise ValidationError({"name": _NAME_TAKEN})
        self.refuse_to_move_credential()
        if self.pk is not None:
            names = self.models.values("name")
            taken = Model.objects.filter(scope=self.scope, name__in=names).exclude(provider=self)
            if found := list(taken.values_list("name", flat=True)[:3]):
                raise ValidationError(
                    f"Other providers there serve models of the same name already: {', '.join(found)}."
                )
        if self.base_url:
            try:
                check_base_url(self.base_url)
            except ValidationError as error:
                raise ValidationError({"base_url": error}) from error

    def refuse_to_move_credential(self) -> None:
        """Raise ValidationError where the stored key would go to another server than the one it was entered for.

        Else whoever may edit the base URL could have the key sent to a server of their own.
        """
        if self.pk is None or not self.credential_encrypted:
            return
        before = Provider.objects.filter(pk=self.pk).first()
        if before is None or before.credential_encrypted != self.credential_encrypted:
            return
        if _server(before.base_url) != _server(self.base_url):
            raise ValidationError(
                {"base_url": f"Enter the key together with the new address: the stored one is for {before.base_url}."}
            )

    def set_credential(self, plain: str) -> None:
        """Encrypt the provider's API key into this instance (not yet saved); an empty one removes it.

        Raises ValidationError for text that could not go into an HTTP header.
        """
        plain = plain.strip()
        if not (plain.isascii() and plain.isprintable()) or " " in plain:
            raise ValidationError("A credential is one word of printable ASCII characters.")
        self.credential_encrypted = credentials.encrypt(plain) if plain else ""
        self.credential_hint = plain[-_HINT_LENGTH:] if len(plain) >= _SHORTEST_HINTED else ""

    @property
    def credential_shown(self) -> str:
        """The last four characters of the key, as far as it is long enough to tell them."""
        if not self.credential_encrypted:
            return "none"
        return f"…{self.credential_hint}" if self.credential_hint else "set"

    def credential(self) -> str:
        """Return the provider's API key, '' where there is none. Raises credentials.UnreadableCredential."""
        return credentials.decrypt(self.credential_encrypted) if self.credential_encrypted else ""


class ModelQuerySet(audit.Audited["Model"]):
    """Models; those moved to another provider get its scope."""

    def update(self, **values: Any) -> int:
        """Update models. Raises IntegrityError where a name is taken in the new provider's scope."""
        if moved := {"provider", "provider_id"} & values.keys():
            provider = values[moved.pop()]
            if not isinstance(provider, Provider):
                provider = Provider.objects.using(self.db).get(pk=provider)
            values["scope"] = provider.scope
        return super().update(**values)

    def bulk_create(self, objs: Iterable["Model"], *args: Any, **kwargs: Any) -> list["Model"]:
        """Create models, each in its provider's scope."""
        made = list(objs)
        for model in made:
            model.scope = model.provider.scope
        return super().bulk_create(made, *args, **kwargs)


class Model(models.Model):
    """A model under the name that clients use."""

    name = models.CharField(
        max_length=200,
        validators=[RegexValidator(r"\A[!-~]+\Z", "Visible ASCII characters only, without spaces.")],
        help_text="What clients ask for. n8n's embedding node lists only names that contain “embed”.",
    )
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="models")
    scope = models.CharField(max_length=40, default=SHARED, editable=False)  # the provider's, for the constraint
    upstream_name = models.CharField(
        max_length=200, blank=True, help_text="The provider's own name, where it is another one."
    )
    enabled = models.BooleanField(default=True)
    free = models.BooleanField(default=False, help_text="Costs nothing. A model neither free nor priced is refused.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(name="model_name_given", condition=~Q(name="")),
            models.UniqueConstraint(name="model_name_once_per_scope", fields=["scope", "name"]),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the model, in its provider's scope."""
        self.scope = self.provider.scope
        if "provider" in (kwargs.get("update_fields") or ()):
            kwargs["update_fields"] = {*kwargs["update_fields"], "scope"}
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Refuse a name that another model of the same scope has."""
        super().clean()
        if not hasattr(self, "provider"):  # a form without it says so itself
            return
        self.scope = self.provider.scope
        if Model.objects.filter(scope=self.scope, name=self.name).exclude(pk=self.pk).exists():
            raise ValidationError({"name": "There is already a model of that name for the same clients."})

    @property
    def upstream(self) -> str:
        """The provider's name for the model."""
        return self.upstream_name or self.name

    def rate_card(self, at: datetime) -> RateCard | None:
        """Return the rates in force at that moment, None where the model has no price then."""
        return card_at(self.prices.all(), microseconds(at))


class PriceQuerySet(audit.Audited["Price"]):
    """Prices; the bulk ways to change them keep the rule that one in force stays as it is."""

    def in_force(self, at: datetime | None = None) -> "PriceQuerySet":
        """Return the prices whose time has come, those since replaced included."""
        return self.filter(effective_from__lte=at or timezone.now())

    def update(self, **values: Any) -> int:
        """Update prices still to come. Raises ValidationError where one is in force."""
        self._refuse_in_force()
        return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete prices still to come. Raises ValidationError where one is in force."""
        self._refuse_in_force()
        return super().delete()

    def _refuse_in_force(self) -> None:
        # A query of its own: in a sliced or ordered one of the caller's, exists() would ask for less.
        if self.model._default_manager.using(self.db).filter(pk__in=self.values("pk")).in_force().exists():
            raise _in_force()


class Price(RateColumns):
    """One row of a model's price list, in picodollars per token.

    A version of a tier is all its rows with the same `effective_from`; the newest that has come is in force, and from
    then on never edited or deleted, because records point at it. Change a price by adding a version.
    """

    class Source(TextChoices):
        CATALOGUE = "catalogue", "Catalogue"
        OPERATOR = "operator", "Operator"

    # PROTECT: deleting a model must not take prices with it that records point at. Disable the model instead.
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="prices")
    effective_from = models.DateTimeField(default=timezone.now)
    service_tier = models.CharField(max_length=30, default=DEFAULT_TIER)
    above_tokens = models.PositiveIntegerField(
        default=0, help_text="0, or a long-context step: these rates hold for whole calls with more input tokens."
    )
    source = models.CharField(max_length=20, choices=Source, default=Source.OPERATOR, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )  # None: a command, or the installation itself

    objects = PriceQuerySet.as_manager()

    class Meta:
        ordering = ["model", "service_tier", "-effective_from", "above_tokens"]
        constraints = [
            models.UniqueConstraint(
                name="price_one_per_step", fields=["model", "service_tier", "above_tokens", "effective_from"]
            ),
            models.CheckConstraint(
                name="price_tier_named",
                condition=~Q(service_tier="") & ~Q(service_tier="auto"),
                violation_error_message="A price is for a tier that serves calls; “auto” is not one.",
            ),
            models.CheckConstraint(name="price_above_tokens_not_negative", condition=Q(above_tokens__gte=0)),
            models.CheckConstraint(name="price_source_known", condition=Q(source__in=["catalogue", "operator"])),
            *rates_in_range("price"),
        ]

    def __str__(self) -> str:
        step = f" above {self.above_tokens:,} tokens" if self.above_tokens else ""
        return f"{self.service_tier}{step} from {self.effective_from:%Y-%m-%d %H:%M} UTC"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save a new price or one still to come. Raises ValidationError for one in force."""
        self._refuse_in_force()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete a price still to come. Raises ValidationError for one in force."""
        self._refuse_in_force()
        return super().delete(*args, **kwargs)

    def _refuse_in_force(self) -> None:
        # What the database says counts: this instance may already carry a later date.
        if self.pk is not None and Price.objects.filter(pk=self.pk).in_force().exists():
            raise _in_force()


class ConfigVersion(models.Model):
    """The single row that triggers add to whenever the configuration changes; see `pricing.watch`."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    version = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(name="config_version_single_row", condition=Q(id=1))]

    def __str__(self) -> str:
        return f"version {self.version}"

    @classmethod
    def current(cls) -> int:
        """Return the version; 0 where nothing was ever configured."""
        return cls.objects.values_list("version", flat=True).first() or 0


def _server(base_url: str) -> tuple[str, str]:
    parts = urlsplit(base_url.strip().lower())
    return parts.scheme, parts.netloc


def _in_force() -> ValidationError:
    return ValidationError("A price in force is never edited or deleted: add one that takes effect later.")
