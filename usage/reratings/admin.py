"""Admin pages of re-ratings: made with the rates that were right, looked at, and applied or withdrawn."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.widgets import INPUT_CLASSES, UnfoldAdminSelectWidget

from pricing.models import Model
from pricing.price_forms import TIERS, LongCallsFormSet, RatesForm, initial_rates, long_calls, step_of
from pricing.rate_columns import RATES
from usage.reratings import work
from usage.reratings.models import SUMMED, RerateStep, RerateSum, Rerating
from usage.statements import Statement

_SHOWN = 500  # months of clients
_WORKING = (Rerating.State.FIGURING, Rerating.State.APPLYING)


class _MomentInput(forms.DateTimeInput):
    """The browser's own calendar and clock."""

    def __init__(self) -> None:
        super().__init__(
            attrs={"type": "datetime-local", "step": "1", "class": " ".join(INPUT_CLASSES)}, format="%Y-%m-%dT%H:%M:%S"
        )


class ReratingForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """Which calls, and why."""

    service_tier = forms.ChoiceField(
        choices=[(tier, tier) for tier in TIERS],
        widget=UnfoldAdminSelectWidget,
        help_text="Of the provider's cost: only calls that were priced by it.",
    )

    class Meta:
        model = Rerating
        fields = ("model", "client", "corrects", "service_tier", "start", "end", "reason")
        field_classes: ClassVar = {"start": forms.DateTimeField, "end": forms.DateTimeField}
        widgets: ClassVar = {"start": _MomentInput(), "end": _MomentInput()}


class WholeRatesForm(RatesForm):
    """The rates of calls that are not long."""

    field_order = RATES


@admin.register(Rerating)
class ReratingAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Re-ratings: the newest first."""

    form = ReratingForm
    list_display = ("number", "model", "about", "start", "end", "state_shown", "made_at", "made_by")
    list_display_links = ("number", "model")
    list_select_related = ("model", "client")
    search_fields = ("model__name", "client__name", "reason")
    show_full_result_count = False

    class Media:
        css: ClassVar = {"all": ["pricing/prices.css"]}

    def get_urls(self) -> list[URLPattern]:
        """Add what is done to one."""
        view = self.admin_site.admin_view
        own = [
            path("<int:pk>/apply/", view(require_POST(self.apply_view)), name="usage_rerating_apply"),
            path("<int:pk>/withdraw/", view(require_POST(self.withdraw_view)), name="usage_rerating_withdraw"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def has_change_permission(self, request: HttpRequest, obj: Rerating | None = None) -> bool:
        """Nobody changes one: it is withdrawn, and made anew."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Rerating | None = None) -> bool:
        """Nor deletes it."""
        return False

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask for the calls and for the rates that they should have had; then figure what it comes to."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        now = timezone.now()
        model = self._model(request)
        steps = [] if model is None or request.method == "POST" else initial_rates(model, now)
        form = self.get_form(request)(request.POST or None, initial={"model": model, "service_tier": "default"})
        rates = WholeRatesForm(request.POST or None, initial=steps[0] if steps else {})
        long_form = LongCallsFormSet(request.POST or None, initial=steps[1:], prefix="long")
        if request.method == "POST" and all([form.is_valid(), rates.is_valid(), long_form.is_valid()]):
            rerating = self._make(request, form, [step_of(rates.cleaned_data), *long_calls(long_form)])
            messages.success(request, "The difference is being figured. Nothing is changed until you apply it.")
            return HttpResponseRedirect(reverse("admin:usage_rerating_change", args=[rerating.pk]))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Mend a wrong price",
            "form": form,
            "rates": rates,
            "long_form": long_form,
            "zone": timezone.get_current_timezone_name(),
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "admin/usage/rerating/add.html", context)

    @transaction.atomic
    def _make(self, request: HttpRequest, form: Any, steps: list[Any]) -> Rerating:
        rerating: Rerating = form.save(commit=False)
        rerating.made_by = request.user.get_username()
        rerating.save()
        for step in steps:
            values = {name: getattr(step, name) for name in (*RATES, "above_tokens")}
            RerateStep.objects.create(rerating=rerating, **values)
        return rerating

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show what it is, what it comes to by client and month, and what of that is billed already."""
        rerating = self.get_object(request, unquote(object_id))
        if rerating is None or not self.has_view_permission(request, rerating):
            answer: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
            return answer
        sums = list(rerating.sums.select_related("client").order_by("client__name", "month")[:_SHOWN])
        billed = set(
            Statement.objects.filter(client__in={one.client_id for one in sums}).values_list("client_id", "month")
        )
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(rerating),
            "original": rerating,
            "rerating": rerating,
            "steps": rerating.steps.all(),
            "sums": [(one, (one.client_id, one.month) in billed) for one in sums],
            "total": _total(sums),
            "working": rerating.state in _WORKING,
            "may_decide": rerating.state == Rerating.State.FIGURED and self.has_add_permission(request),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/usage/rerating/change.html", context)

    def apply_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Have it applied."""
        rerating = self._decided(request, pk)
        by = request.user if isinstance(request.user, User) else None
        try:
            work.apply(rerating, by, timezone.now())
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        else:
            messages.success(request, "It is being applied. The next statements have what concerns closed months.")
        return HttpResponseRedirect(reverse("admin:usage_rerating_change", args=[pk]))

    def withdraw_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Take it back."""
        rerating = self._decided(request, pk)
        try:
            work.withdraw(rerating)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return HttpResponseRedirect(reverse("admin:usage_rerating_change", args=[pk]))
        messages.success(request, "Withdrawn. Nothing was changed.")
        return HttpResponseRedirect(reverse("admin:usage_rerating_changelist"))

    def _decided(self, request: HttpRequest, pk: int) -> Rerating:
        """Return it. Raises Http404, and PermissionDenied to mere readers."""
        rerating: Rerating = get_object_or_404(self.get_queryset(request), pk=pk)
        if not self.has_add_permission(request):
            raise PermissionDenied
        return rerating

    def _model(self, request: HttpRequest) -> Model | None:
        given = request.GET.get("model", "")
        return Model.objects.filter(pk=int(given)).first() if given.isdecimal() and len(given) < 19 else None

    # --- columns ---

    @admin.display(description="no.", ordering="pk")
    def number(self, rerating: Rerating) -> str:
        """As a call's page names it."""
        return str(rerating.pk)

    @admin.display(description="for", ordering="client__name")
    def about(self, rerating: Rerating) -> str:
        """Return whose calls."""
        return str(rerating.client) if rerating.client else "every client"

    @admin.display(description="state", ordering="state")
    def state_shown(self, rerating: Rerating) -> str:
        """Return where it stands."""
        return rerating.get_state_display()


def _total(sums: list[RerateSum]) -> dict[str, int]:
    return {name: sum(one.amounts()[name] for one in sums) for name in SUMMED}
