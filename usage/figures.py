"""Sums of calls as people are told them."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from usage import outcomes
from usage.folding import Sums
from usage.histograms import add, percentile

METRICS: Final = {
    "charge": "Charged, USD",
    "cost": "Cost, USD",
    "margin": "Margin, USD",
    "calls": "Calls",
    "tokens": "Tokens",
}
FAILED: Final = frozenset({outcomes.UPSTREAM_ERROR, outcomes.BROKEN, outcomes.INTERRUPTED})


class Figures:
    """Sums of calls that counted, and how many did not."""

    def __init__(self) -> None:
        self.sums = Sums()
        self.by_outcome: dict[str, int] = defaultdict(int)

    def add(self, outcome: str, sums: Sums) -> None:
        """Add the calls of one outcome; of those that did not count only their number, and the provider's cost."""
        self.by_outcome[outcome] += sums.calls
        self.sums.add(sums)

    def add_times(self, sums: Sums) -> None:
        """Add the latencies of calls whose amounts are there already."""
        add(self.sums.latency, sums.latency)
        add(self.sums.first_byte, sums.first_byte)

    def without(self, others: Iterable["Figures"]) -> "Figures":
        """Return what is left of the sums when those of others are taken away. It has no latencies."""
        left = Figures()
        left.sums, left.by_outcome = Sums(self.sums.amounts), defaultdict(int, self.by_outcome)
        for other in others:
            left.sums.amounts = [mine - its for mine, its in zip(left.sums.amounts, other.sums.amounts, strict=True)]
            for outcome, calls in other.by_outcome.items():
                left.by_outcome[outcome] -= calls
        return left

    @property
    def calls(self) -> int:
        """Those that count."""
        return sum(calls for outcome, calls in self.by_outcome.items() if outcome in outcomes.COUNTED)

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.sums.input_tokens + self.sums.output_tokens

    @property
    def cost(self) -> int:
        """Picodollars that providers take."""
        return self.sums.cost

    @property
    def charge(self) -> int:
        """Picodollars that clients pay."""
        return self.sums.charge

    @property
    def margin(self) -> int:
        """Picodollars between the two."""
        return self.sums.charge - self.sums.cost

    @property
    def refused(self) -> int:
        """Calls that we refused."""
        return self.by_outcome[outcomes.REFUSED]

    @property
    def failed(self) -> int:
        """Calls that the provider, or the gateway, failed."""
        return sum(calls for outcome, calls in self.by_outcome.items() if outcome in FAILED)

    @property
    def cached_percent(self) -> int:
        """How much of the input came from the provider's cache."""
        return self.sums.cached_tokens * 100 // self.sums.input_tokens if self.sums.input_tokens else 0

    def amount(self, metric: str) -> int:
        """Return one of METRICS: a number, or picodollars."""
        return int(getattr(self, metric))

    def latency(self, percent: int) -> int | None:
        """Return the µs that so many percent of the calls did not exceed, those that we refused left aside."""
        return percentile(self.sums.latency, percent)

    def first_byte(self, percent: int) -> int | None:
        """Return the same to the first byte."""
        return percentile(self.sums.first_byte, percent)
