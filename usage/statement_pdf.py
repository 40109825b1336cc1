"""A statement as PDF, for whoever is billed: nothing of cost, of providers or of margin is in it."""

import io
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import unfold
from django.http import HttpResponse
from django.utils import formats
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from fpdf import FPDF
from fpdf.enums import Align, TableBordersLayout, WrapMode, XPos, YPos
from fpdf.fonts import FontFace

from clients.logos import Logo
from pricing.money import format_dollars
from usage.statements import Statement, StatementLine
from usage.terms import MICRO

_FONTS: Final = Path(unfold.__file__).parent / "static" / "unfold" / "fonts" / "inter"
_GREY: Final = (100, 100, 100)
_HEADINGS: Final = FontFace(emphasis="BOLD", color=_GREY, size_pt=8)
_LOGO_HEIGHT, _LOGO_WIDTH = 16, 60  # mm, at most
_REPLACEMENT: Final = "\u25a1"  # a white square


def pdf(statement: Statement) -> bytes:
    """Return the file; the same for the same statement."""
    page = _Page(statement)
    page.head()
    page.billed()
    page.totals()
    page.workflows()
    return bytes(page.output())


def pdf_answer(statement: Statement) -> HttpResponse:
    """Return the PDF of a statement to whoever may have it."""
    answer = HttpResponse(pdf(statement), content_type="application/pdf")
    answer["Content-Disposition"] = f'inline; filename="statement-{statement.number}.pdf"'
    answer["Cache-Control"] = "no-store"
    return answer


class _Page(FPDF):
    """A4, in the typeface of the back office."""

    def __init__(self, statement: Statement) -> None:
        super().__init__(format="A4")
        self.statement = statement
        self.known = _glyphs()
        self.set_creation_date(statement.closed_at)
        self.set_title(f"Statement {statement.number}")
        self.set_author(self._shown(statement.agency_name))
        for style, name in (("", "Inter-Regular"), ("B", "Inter-SemiBold")):
            self.add_font("Inter", style, Path(_unpacked().name) / f"{name}.ttf")
        self.set_margins(20, 20)
        self.set_auto_page_break(True, margin=22)
        self.alias_nb_pages()
        self.add_page()

    def footer(self) -> None:
        """Tell the page, below."""
        self.set_y(-16)
        self.set_font("Inter", size=8)
        self.set_text_color(*_GREY)
        self.cell(0, 5, f"Statement {self.statement.number}, page {self.page_no()} of {{nb}}", align=Align.R)

    def head(self) -> None:
        """Say who bills whom for what."""
        statement = self.statement
        if statement.agency_logo:
            self._logo(statement.agency_logo)
        self._line(statement.agency_name or "Statement", 14, bold=True)
        for line in statement.agency_address.splitlines():
            self._line(line, 9, grey=True)
        self.ln(8)
        self._line(f"Statement {statement.number}", 18, bold=True)
        self._line(f"{statement.month:%B %Y}, days of {statement.zone}", 10)
        self._line(f"Made on {formats.date_format(statement.closed_at, 'j F Y')}", 9, grey=True)
        self.ln(4)
        self._line("For", 8, grey=True)
        for line in dict.fromkeys((statement.client_company or statement.client_name, statement.client_name)):
            self._line(line, 11, bold=line == (statement.client_company or statement.client_name))
        self.ln(6)

    def billed(self) -> None:
        """List what is paid."""
        statement = self.statement
        rows = [(*_counted(line), statement.money(line.minor)) for line in statement.billed]
        self._table(("", "Calls", "Tokens", statement.currency), rows or [("Nothing was used.", "", "", "")])

    def totals(self) -> None:
        """Sum it up, with tax and the rate."""
        statement = self.statement
        self.ln(2)
        rows = [("Net", statement.net)] + [(statement.tax_label or "Tax", statement.tax)] * bool(statement.tax_points)
        for name, minor in (*rows, ("To be paid", statement.gross)):
            bold = name == "To be paid"
            self.set_font("Inter", "B" if bold else "", 11 if bold else 9)
            self.set_text_color(0, 0, 0)
            self.cell(120, 7, self._shown(name), align=Align.R)
            amount = f"{statement.money(minor)} {statement.currency}"
            self.cell(0, 7, amount, align=Align.R, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        if statement.currency != "USD":
            whole, part = divmod(statement.rate, MICRO)
            rate = f"{whole}.{part:06}".rstrip("0").rstrip(".")
            self._line(f"Usage is measured in US dollars: 1 USD is {rate} {statement.currency} here.", 8, grey=True)

    def workflows(self) -> None:
        """Say where the usage came from."""
        found = self.statement.by_workflow
        if not found:
            return
        self.ln(6)
        self._line("Where the usage came from", 12, bold=True)
        self._line("The same calls, by workflow, before what the fee includes; in USD.", 8, grey=True)
        self.ln(1)
        self._table(("Workflow", "Calls", "Tokens", "USD"), [(*_counted(line), _usd(line)) for line in found])

    def _logo(self, logo: Logo) -> None:
        """Draw it as high as fits a letterhead."""
        height = min(_LOGO_HEIGHT, _LOGO_WIDTH * logo.height / logo.width)
        self.image(io.BytesIO(bytes(logo.png)), h=height, alt_text=self._shown(self.statement.agency_name))
        self.ln(4)

    def _table(self, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
        self.set_font("Inter", size=9)
        self.set_text_color(0, 0, 0)
        self.set_draw_color(200, 200, 200)
        with self.table(
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            col_widths=(88, 24, 30, 28),
            headings_style=_HEADINGS,
            line_height=6,
            text_align=(Align.L, Align.R, Align.R, Align.R),
            wrapmode=WrapMode.CHAR,
        ) as table:
            for texts in (head, *rows):
                row = table.row()
                for text in texts:
                    row.cell(self._shown(text))

    def _line(self, text: str, size: int, *, bold: bool = False, grey: bool = False) -> None:
        self.set_font("Inter", "B" if bold else "", size)
        self.set_text_color(*(_GREY if grey else (0, 0, 0)))
        options: dict[str, Any] = {"new_x": XPos.LMARGIN, "new_y": YPos.NEXT, "align": Align.L}
        self.multi_cell(0, size * 0.55, self._shown(text), **options)

    def _shown(self, text: str) -> str:
        """Return `text` in what the typeface has; what it has not, such as emoji, is told by a sign for that."""
        plain = unicodedata.normalize("NFC", text)
        return "".join(letter if ord(letter) in self.known else _REPLACEMENT for letter in plain)


def _usd(line: StatementLine) -> str:
    whole, _, part = format_dollars(line.amount).partition(".")
    return f"{whole}.{part[:6]:0<6}"


def _counted(line: StatementLine) -> tuple[str, str, str]:
    return line.title, _count(line.calls), _count(line.input_tokens + line.output_tokens)


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


@cache
def _unpacked() -> TemporaryDirectory[str]:
    """Return where the typeface lies as TrueType: reading what is packed for the web takes a second each time."""
    directory = TemporaryDirectory(prefix="gateway-fonts-")
    for name in ("Inter-Regular", "Inter-SemiBold"):
        font = TTFont(_FONTS / f"{name}.woff2", recalcTimestamp=False)
        font.flavor = None
        font.save(Path(directory.name) / f"{name}.ttf")
    return directory


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(TTFont(_FONTS / "Inter-Regular.woff2").getBestCmap())
