"""A statement as CSV, for whoever is billed: nothing of cost, of providers or of margin is in it."""

from collections.abc import Iterator
from decimal import Decimal

from clients import spreadsheet
from pricing.money import format_dollars
from usage.statements import Statement, StatementLine

HEADER = (
    *("statement", "client", "month", "kind", "line", "usage_month", "requests", "sessions"),
    *("input_tokens", "output_tokens", "charge_usd", "amount_usd", "currency", "amount"),
)


def lines(statement: Statement) -> Iterator[str]:
    """Yield the lines of the file: those that are paid, tax and total, then where the usage came from.

    Workflows tell the same calls once more: their amount in the currency is left empty, so that a sum is right.
    """
    about = (statement.number, statement.client_name, f"{statement.month:%Y-%m}")
    nothing = ("", 0, 0, 0, 0, "", "")

    def rows() -> Iterator[tuple[spreadsheet.Value, ...]]:
        for line in statement.billed:
            yield (*about, *_figures(line), statement.currency, Decimal(statement.money(line.minor)))
        if statement.tax:
            yield (
                *about,
                "tax",
                statement.tax_label,
                *nothing,
                statement.currency,
                Decimal(statement.money(statement.tax)),
            )
        for line in statement.by_workflow:
            yield (*about, *_figures(line), statement.currency, "")

    return spreadsheet.lines(HEADER, rows())


def _figures(line: StatementLine) -> tuple[spreadsheet.Value, ...]:
    counts = (line.calls, line.sessions, line.input_tokens, line.output_tokens)
    money = (Decimal(format_dollars(line.charge)), Decimal(format_dollars(line.amount)))
    return (line.kind, line.title, f"{line.month:%Y-%m}", *counts, *money)
