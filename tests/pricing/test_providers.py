from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from pytest_django import Settings

from pricing.models import Model, Provider

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"base_url": ""},
        {"base_url": "https://example.com/"},
        {"kind": "sandbox"},
        {"kind": "unheard-of"},
        {"connect_timeout": 0},
        {"first_byte_timeout": 0},
        {"idle_timeout": 0},
        {"total_timeout": 0},
        {"total_timeout": -1},
        {"credential_hint": "abcd"},
    ],
)
def test_the_database_refuses_a_provider_that_cannot_be(fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Provider.objects.create(**{"name": "x", "base_url": "https://example.com/v1"} | fields)


def test_names_are_taken_once(model: Model) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Provider.objects.create(name="openai", base_url="https://example.com/v1")
    with pytest.raises(IntegrityError), transaction.atomic():
        Model.objects.create(name=model.name, provider=model.provider)


def test_a_sandbox_has_no_base_url() -> None:
    Provider(name="sandbox", kind="sandbox").full_clean()


def test_saving_by_a_form_refuses_a_private_base_url(settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = False
    with pytest.raises(ValidationError) as refused:
        Provider(name="x", base_url="https://169.254.169.254/latest").full_clean()
    assert list(refused.value.message_dict) == ["base_url"]
    settings.ALLOW_PRIVATE_PROVIDERS = True
    Provider(name="x", base_url="http://127.0.0.1:11434/v1").full_clean()


def test_a_base_url_loses_its_last_slash(settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    provider = Provider(name="x", base_url=" http://127.0.0.1:11434/v1/ ")
    provider.full_clean()
    provider.save()
    assert provider.base_url == "http://127.0.0.1:11434/v1"


def test_time_outs_begin_as_the_sdks_have_them() -> None:
    provider = Provider()
    assert (provider.connect_timeout, provider.first_byte_timeout) == (5, 600)
    assert (provider.idle_timeout, provider.total_timeout) == (300, 1800)


def test_a_model_goes_upstream_under_its_own_name_unless_it_is_an_alias(provider: Provider) -> None:
    assert Model(name="a", provider=provider).upstream == "a"
    assert Model(name="a", provider=provider, upstream_name="b").upstream == "b"


@pytest.mark.parametrize("name", ["", "two words", "tab\t", "newline\n", "ümlaut"])
def test_a_model_name_is_one_visible_word(provider: Provider, name: str) -> None:
    with pytest.raises(ValidationError):
        Model(name=name, provider=provider).full_clean()


def test_a_provider_with_models_stays(model: Model) -> None:
    with pytest.raises(ProtectedError):
        model.provider.delete()
