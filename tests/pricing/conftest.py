from datetime import UTC, datetime, timedelta

import pytest

from pricing.models import Model, Price, Provider


@pytest.fixture
def provider(db: None) -> Provider:
    return Provider.objects.create(name="openai", base_url="https://api.openai.com/v1")


@pytest.fixture
def model(provider: Provider) -> Model:
    return Model.objects.create(name="gpt-4o-mini", provider=provider)


@pytest.fixture
def price(model: Model) -> Price:
    """A price in force since an hour."""
    since = datetime.now(UTC) - timedelta(hours=1)
    return Price.objects.create(model=model, effective_from=since, input=150_000, output=600_000)
