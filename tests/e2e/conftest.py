from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.callers import Account, account, add_model
from tests.installation import Installation
from tests.stub.provider import StubProvider

# Picodollars per token: 0.15, 0.075 and 0.60 USD per million.
RATES = {"input": 150_000, "cached_input": 75_000, "output": 600_000}
MODELS = ("gpt-4o-mini", "stub-chunks-40", "stub-429", "stub-500", "stub-401", "stub-400", "stub-hold", "stub-reset")


@dataclass(frozen=True)
class House:
    """One running installation with a provider; each test has clients of its own in it."""

    installation: Installation
    stub: StubProvider
    watcher: Account

    def account(self, *limits: str, **profile: Any) -> Account:
        """A new client with a key."""
        return account(self.installation, *limits, **profile)

    def model(self, name: str, rates: dict[str, int] | None, *, upstream: str = "") -> str:
        """One more model of the stub; `rates` {}: without a price, None: free."""
        add_model(self.watcher, name, rates, upstream=upstream)
        return name


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with StubProvider() as stub, Installation(tmp_path_factory.mktemp("house") / "data") as installation:
        installation.provider(stub.url, dict.fromkeys(MODELS, RATES))
        installation.start()
        yield House(installation, stub, account(installation))


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    """The installation all tests of a process share, with a stub that remembers nothing of others."""
    shared.stub.clear()
    yield shared
    assert "unexpected error" not in shared.installation.log()
    assert shared.installation.gateway is not None
    assert shared.installation.gateway.poll() is None, shared.installation.log()[-4000:]
