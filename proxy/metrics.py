"""Counts of what happened, cheap to add to on the path of a call, shown to Prometheus on request.

Money is in picodollars here as everywhere: a counter in dollars would be a float.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from usage.lines import End

# Seconds; a proxy's own overhead at one end, a long answer at the other.
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_BOUNDS_US = tuple(int(bound * 1_000_000) for bound in LATENCY_BUCKETS)


class Histogram:
    """Durations in µs, by bucket."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_US) + 1)
        self.total = 0

    def add(self, microseconds: int) -> None:
        """Note one duration."""
        self.counts[bisect_left(_BOUNDS_US, microseconds)] += 1
        self.total += microseconds

    def cumulated(self) -> list[tuple[str, float]]:
        """Buckets as Prometheus wants them: upper bound in seconds, count up to it."""
        found: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, LATENCY_BUCKETS), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, total))
        return found


class Metrics:
    """All counters of this process. `gauges` are asked when somebody looks."""

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._gauges = gauges
        self._calls: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._tokens: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._latency: defaultdict[str, Histogram] = defaultdict(Histogram)
        self._first_byte: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.wrong_keys = 0
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def count(self, end: End) -> None:
        """Note the end of one call."""
        endpoint = end["ep"]
        self._calls[endpoint, end["o"], end["status"]] += 1
        if end["in"] or end["out"]:
            tokens = self._tokens[endpoint]
            tokens[0] += end["in"]
            tokens[1] += end["out"]
            tokens[2] += end["cost"]
        self._latency[endpoint].add(end["ms"])
        if end["ttfb"] is not None:
            self._first_byte[endpoint].add(end["ttfb"])

    def collect(self) -> Iterator[Metric]:
        """Called by the Prometheus client."""
        calls = CounterMetricFamily("gateway_calls", "Calls ended.", labels=("endpoint", "outcome", "status"))
        for (endpoint, outcome, status), number in self._calls.items():
            calls.add_metric((endpoint, outcome, str(status)), number)
        yield calls
        tokens = CounterMetricFamily("gateway_tokens", "Tokens.", labels=("endpoint", "kind"))
        cost = CounterMetricFamily("gateway_cost_picodollars", "Cost in 10^-12 USD.", labels=("endpoint",))
        for endpoint, (entered, left, spent) in self._tokens.items():
            tokens.add_metric((endpoint, "input"), entered)
            tokens.add_metric((endpoint, "output"), left)
            cost.add_metric((endpoint,), spent)
        yield tokens
        yield cost
        for name, text, histograms in (
            ("gateway_latency_seconds", "From admission to the end of a call.", self._latency),
            ("gateway_first_byte_seconds", "From admission to the provider's first byte.", self._first_byte),
        ):
            family = HistogramMetricFamily(name, text, labels=("endpoint",))
            for endpoint, histogram in histograms.items():
                family.add_metric((endpoint,), histogram.cumulated(), histogram.total / 1_000_000)
            yield family
        yield CounterMetricFamily("gateway_wrong_keys", "Requests with a key that is none.", value=self.wrong_keys)
        for name, (text, value) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=value())

    def render(self) -> bytes:
        """The exposition text, version 0.0.4."""
        return generate_latest(self.registry)
