"""What the ledger knows, in the form the engine takes it. Reads the database, so it belongs into a thread."""

from pathlib import Path

from proxy.limits.rules import Balances, Missing
from usage.ledger import Window, read_ledger


def read_balances(journal_dir: Path, missing: Missing) -> Balances:
    """Return all that is `missing`, of calls settled at or before `missing.until`."""
    windows = [
        Window(key.client_id, place, key.metric, max(0, key.start), key.cycle == "minute", key.key_id)
        for place, key in enumerate(missing.counters)
    ]
    counts = read_ledger(journal_dir, windows, missing.until)
    return Balances(
        counters={key: counts.spent.get(place, 0) for place, key in enumerate(missing.counters)},
        seconds={key: counts.seconds[place] for place, key in enumerate(missing.counters) if place in counts.seconds},
        sessions=counts.sessions,
    )
