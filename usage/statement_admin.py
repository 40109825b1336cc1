"""Admin pages of statements, with their files, and of the terms that they are made by."""

from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from pricing.fields import DollarsFormField
from pricing.money import format_sum
from usage.models import Statement, Terms
from usage.statement_csv import lines
from usage.statement_pdf import pdf_answer
from usage.terms import MICRO


@admin.register(Statement)
class StatementAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Statements: nobody makes one here, or changes it; months are closed on a page of their own."""

    list_display = ("number", "client_name", "month_shown", "gross_shown", "closed_at", "closed_by")
    search_fields = ("=number", "client_name", "client_company")
    list_filter = ("month",)
    list_before_template = "admin/usage/close_link.html"
    show_full_result_count = False

    class Media:
        css: ClassVar = {"all": ["pricing/prices.css"]}

    def get_urls(self) -> list[URLPattern]:
        """Add the files."""
        view = self.admin_site.admin_view
        own = [
            path("<int:pk>/pdf/", view(require_safe(self.pdf_view)), name="usage_statement_pdf"),
            path("<int:pk>/csv/", view(require_safe(self.csv_view)), name="usage_statement_csv"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the statement, with what its calls cost, which the client is not told."""
        statement = self.get_object(request, unquote(object_id))
        cost = sum(line.cost for line in statement.billed)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{statement}, {statement.client_name}",
            "opts": self.opts,
            "original": statement,
            "statement": statement,
            "billed": [(line, statement.money(line.minor)) for line in statement.billed],
            "net": statement.money(statement.net),
            "tax": statement.money(statement.tax),
            "gross": statement.money(statement.gross),
            "rate": Decimal(statement.rate) / MICRO,
            "cost": cost,
            "margin": sum(line.amount for line in statement.billed) - cost,
        }
        return TemplateResponse(request, "admin/usage/statement.html", context)

    def pdf_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Hand out the PDF. Raises Http404."""
        return pdf_answer(get_object_or_404(self.get_queryset(request), pk=pk))

    def csv_view(self, request: HttpRequest, pk: int) -> StreamingHttpResponse:
        """Hand out the CSV. Raises Http404."""
        statement = get_object_or_404(self.get_queryset(request), pk=pk)
        answer = StreamingHttpResponse(lines(statement), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="statement-{statement.number}.csv"'
        return answer

    @admin.display(description="month", ordering="month")
    def month_shown(self, statement: Statement) -> str:
        """The month in words."""
        return f"{statement.month:%B %Y}"

    @admin.display(description="to be paid", ordering="gross")
    def gross_shown(self, statement: Statement) -> str:
        """The total with its currency."""
        return f"{statement.money(statement.gross)} {statement.currency}"


class TermsForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """Terms, in USD."""

    monthly_fee = DollarsFormField(label="Monthly fee, USD", required=False, widget=UnfoldAdminTextInputWidget)
    included = DollarsFormField(
        label="Usage included, USD",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="So much of what its calls are charged is in the fee.",
    )
    minimum = DollarsFormField(
        label="Minimum a month, USD",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="A month costs no less.",
    )
    session_price = DollarsFormField(
        label="Price of a WhatsApp session, USD", required=False, widget=UnfoldAdminTextInputWidget
    )
    rate = forms.DecimalField(
        label="Rate",
        max_digits=12,
        decimal_places=6,
        min_value=Decimal("0.000001"),
        max_value=10**6,
        widget=UnfoldAdminTextInputWidget,
        help_text="So much of the currency is one US dollar. A statement keeps the rate that it was made by.",
    )

    class Meta:
        model = Terms
        fields = ("client", "since", "currency", "rate", "monthly_fee", "included", "minimum", "session_price")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "rate" in self.fields:
            self.initial["rate"] = (Decimal(self.instance.rate) / MICRO).normalize()

    def clean_rate(self) -> int:
        """Return millionths."""
        return int(self.cleaned_data["rate"] * MICRO)

    def clean_currency(self) -> str:
        """Return it in capital letters."""
        return str(self.cleaned_data["currency"]).upper()


@admin.register(Terms)
class TermsAdmin(ModelAdmin):  # type: ignore[misc]
    """Terms of clients. Those that a statement was made by stay as they are."""

    form = TermsForm
    list_display = ("client", "from_shown", "fee_shown", "minimum_shown", "currency")
    list_select_related = ("client",)
    search_fields = ("client__name",)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Terms]:
        """Order by client and month."""
        found: QuerySet[Terms] = super().get_queryset(request)
        return found.order_by("client__name", "-since")

    def has_change_permission(self, request: HttpRequest, obj: Terms | None = None) -> bool:
        """Leave alone what a statement was made by."""
        return (obj is None or not obj.in_use) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Terms | None = None) -> bool:
        """Leave alone what a statement was made by."""
        return (obj is None or not obj.in_use) and super().has_delete_permission(request, obj)

    @admin.display(description="from", ordering="since")
    def from_shown(self, terms: Terms) -> str:
        """The month in words."""
        return f"{terms.since:%B %Y}"

    @admin.display(description="monthly fee, USD", ordering="monthly_fee")
    def fee_shown(self, terms: Terms) -> str:
        """USD to the cent."""
        return format_sum(terms.monthly_fee)

    @admin.display(description="minimum, USD", ordering="minimum")
    def minimum_shown(self, terms: Terms) -> str:
        """USD to the cent."""
        return format_sum(terms.minimum)
