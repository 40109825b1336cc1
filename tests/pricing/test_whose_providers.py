"""Names are taken once among what serves the same calls: everybody's, one operator's, one client's account."""

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from pricing.catalogue import install_openai, install_sandbox
from pricing.models import Model, Provider

pytestmark = pytest.mark.django_db
URL = "https://93.184.216.34/v1"


@pytest.fixture
def ann() -> int:
    return get_user_model().objects.create(username="ann").pk


@pytest.fixture
def ben() -> int:
    return get_user_model().objects.create(username="ben").pk


def provider(name: str, **fields: object) -> Provider:
    return Provider.objects.create(name=name, base_url=URL, **fields)


def refused(made: Provider | Model) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as error:
        made.full_clean()
    return error.value.message_dict


def test_each_scope_has_names_of_its_own(ann: int, ben: int) -> None:
    where = [
        provider("p"),
        provider("p", owner_id=ann),
        provider("p", owner_id=ben),
        provider("account", owner_id=ann, billed_to_client=True),
        provider("another account", owner_id=ann, billed_to_client=True),
    ]
    for one in where:
        model = Model(name="m", provider=one)
        model.full_clean()
        model.save()
    second = provider("second", owner_id=ann)
    assert "already a model of that name" in refused(Model(name="m", provider=second))["name"][0]
    with pytest.raises(IntegrityError), transaction.atomic():
        Model.objects.create(name="m", provider=second)
    with pytest.raises(IntegrityError), transaction.atomic():
        Model.objects.bulk_create([Model(name="m", provider=second)])


def test_names_of_providers_are_taken_once_per_owner(ann: int) -> None:
    provider("p", owner_id=ann)
    provider("p")
    for owner in (None, ann):
        assert "already a provider of that name" in refused(Provider(name="p", base_url=URL, owner_id=owner))["name"][0]
        with pytest.raises(IntegrityError), transaction.atomic():
            provider("p", owner_id=owner)


@pytest.mark.parametrize("how", ["save", "update"])
def test_a_provider_in_other_hands_takes_its_models_along(ann: int, ben: int, how: str) -> None:
    moved = provider("p", owner_id=ann)
    Model.objects.create(name="m", provider=moved)
    taken = Model.objects.create(name="m", provider=provider("q", owner_id=ben))
    moved.owner_id = ben
    assert "Other providers there serve models of the same name already: m." in str(refused(moved))
    with pytest.raises(IntegrityError), transaction.atomic():
        moved.save() if how == "save" else Provider.objects.filter(pk=moved.pk).update(owner=ben)
    assert Provider.objects.get(pk=moved.pk).owner_id == ann
    taken.delete()
    moved.full_clean()
    if how == "save":
        moved.save()
    else:
        Provider.objects.filter(pk=moved.pk).update(owner=ben)
    Model.objects.create(name="m", provider=provider("r", owner_id=ann))
    with pytest.raises(IntegrityError), transaction.atomic():
        Model.objects.create(name="m", provider=provider("s", owner_id=ben))


@pytest.mark.parametrize("how", ["save", "save a field", "update", "update by id"])
def test_a_model_moved_to_another_provider_counts_there(ann: int, how: str) -> None:
    shared = provider("p")
    model = Model.objects.create(name="m", provider=provider("q", owner_id=ann))
    if how.startswith("save"):
        model.provider = shared
        model.save(**({"update_fields": ["provider"]} if how == "save a field" else {}))
    else:
        values = {"provider": shared} if how == "update" else {"provider_id": shared.pk}
        Model.objects.filter(pk=model.pk).update(**values)
    with pytest.raises(IntegrityError), transaction.atomic():
        Model.objects.create(name="m", provider=shared)
    Model.objects.create(name="m", provider=Provider.objects.get(name="q"))


def test_whoever_has_providers_is_not_deleted(ann: int) -> None:
    provider("p", owner_id=ann)
    with pytest.raises(ProtectedError):
        get_user_model().objects.get(pk=ann).delete()


def test_the_sandbox_is_everybodys(ann: int) -> None:
    for fields in ({"owner_id": ann}, {"billed_to_client": True}):
        assert "The sandbox is everybody's" in str(refused(Provider(name="s", kind="sandbox", **fields)))
        with pytest.raises(IntegrityError), transaction.atomic():
            Provider.objects.create(name="s", kind="sandbox", **fields)


def test_what_is_installed_at_first_is_everybodys_whatever_operators_have(ann: int) -> None:
    own = provider("openai", owner_id=ann)
    Model.objects.create(name="sandbox", provider=own)
    Model.objects.create(name="gpt-5-mini", provider=own)
    installed = install_openai(URL, "sk-0123456789abcdef")
    assert installed != own
    assert installed.models.filter(name="gpt-5-mini").exists()
    assert install_sandbox().models.filter(name="sandbox").exists()


def test_clients_of_an_operator_may_be_given_what_is_shared_or_the_operators(ann: int, ben: int) -> None:
    shared, anns, account = (
        provider("p"),
        provider("q", owner_id=ann),
        provider("r", owner_id=ann, billed_to_client=True),
    )
    provider("s", owner_id=ben)
    assert set(Provider.objects.serving_clients_of(ann)) == {shared, anns, account}
    assert set(Provider.objects.serving_clients_of(None)) == {shared}
