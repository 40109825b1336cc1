"""From a provider's own list of models to models with prices."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from pricing.asking import Trouble
from pricing.catalogue import CataloguePrice, UnsupportedPrice, current_price, sync_prices
from pricing.connection_test import describe
from pricing.model_list import read_model_list
from pricing.models import Model, Provider

MAX_AT_ONCE = 1_000


class State(StrEnum):
    """What an import of a model would come to."""

    NEW = "new"
    HERE = "here"
    """The provider's model is one of ours, under its own name or another."""
    TAKEN = "taken"
    """Another provider serves the same clients under that name."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model on a provider's list. `price` is the catalogue's now; None: `no_price` says why."""

    name: str
    state: State
    present: Model | None
    price: CataloguePrice | None
    no_price: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: `unpriced` were made switched off, `skipped` were here or taken already."""

    made: list[Model]
    unpriced: list[Model]
    skipped: list[str]


def discover(provider: Provider) -> list[Found]:
    """Ask a provider for its models; return them by name, each with what is known of it here and in the catalogue.

    Raises ValidationError, in words, where the list cannot be had.
    """
    _refuse_sandbox(provider)
    try:
        names = read_model_list(provider).ids
    except Trouble as trouble:
        raise ValidationError(" ".join(describe(trouble, provider.base_url)), code=trouble.problem.value) from trouble
    own, taken = _present(provider)
    now = timezone.now()
    found = []
    for name in names:
        price, why = None, "not in the catalogue"
        try:
            price = current_price(provider, name, now)
        except UnsupportedPrice as error:
            why = str(error)
        present = own.get(name) or taken.get(name)
        state = State.HERE if name in own else State.TAKEN if name in taken else State.NEW
        found.append(Found(name, state, present, price, "" if price else why))
    return found


def import_models(provider: Provider, names: Iterable[str], by: User | None = None) -> Imported:
    """Make models of a provider, all or none, with the catalogue's prices; without a price they are switched off.

    Names that are here or taken are skipped, so that doing it twice does it once. Raises ValidationError for a name
    that no model may have, for more than MAX_AT_ONCE, and where somebody else makes one of them meanwhile.
    """
    _refuse_sandbox(provider)
    wanted = list(dict.fromkeys(names))
    if len(wanted) > MAX_AT_ONCE:
        raise ValidationError(f"Import at most {MAX_AT_ONCE:,} models at a time.")
    try:
        with transaction.atomic():
            return _import(provider, wanted, by)
    except IntegrityError as error:
        raise ValidationError("Somebody else has just made one of these models. Look again, and retry.") from error


def _import(provider: Provider, wanted: list[str], by: User | None) -> Imported:
    own, taken = _present(provider)
    made = []
    skipped = []
    for name in wanted:
        if name in own or name in taken:
            skipped.append(name)
            continue
        model = Model(name=name, provider=provider)
        try:
            model.full_clean()
        except ValidationError as error:
            raise ValidationError(f"{name[:50]!r} cannot be a model's name: {' '.join(error.messages)}") from error
        model.save()
        made.append(model)
    sync_prices(made, timezone.now(), by=by)
    priced = set(
        Model.objects.filter(pk__in=[model.pk for model in made], prices__isnull=False).values_list("pk", flat=True)
    )
    unpriced = [model for model in made if model.pk not in priced]
    for model in unpriced:
        model.enabled = False
        model.save(update_fields=["enabled"])
    return Imported(made, unpriced, skipped)


def _present(provider: Provider) -> tuple[dict[str, Model], dict[str, Model]]:
    """Return the provider's models by the provider's names, and all of its scope by the names that clients use."""
    own = {model.upstream: model for model in provider.models.all()}
    taken = {model.name: model for model in Model.objects.filter(scope=provider.scope)}
    return own, taken


def _refuse_sandbox(provider: Provider) -> None:
    if provider.kind == Provider.Kind.SANDBOX:
        raise ValidationError("The sandbox has its own models; there is nothing to import.")
