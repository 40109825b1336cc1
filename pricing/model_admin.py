"""Admin pages of models: what they cost now, what they did cost and will, and what to look at."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin as BaseAdmin

from pricing.catalogue import Difference, differences, sync_prices
from pricing.models import Model, Price
from pricing.price_forms import LongCallsFormSet, NewPriceForm, initial_rates, long_calls, step_of
from pricing.price_list import history, withdraw
from pricing.quotes import RateCard, Rates
from pricing.rate_text import rate_text

_SHOWN = 500  # rows of the history


class NeedsAttention(admin.SimpleListFilter):
    """Models that calls are refused for."""

    title = "price"
    parameter_name = "price"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [("none", "No price"), ("priced", "Priced or free")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        """Return the models whose default tier has no price in force, or all others."""
        in_force = Price.objects.in_force().filter(service_tier="default", above_tokens=0).values("model")
        match self.value():
            case "none":
                return queryset.filter(free=False).exclude(pk__in=in_force)
            case "priced":
                return queryset.exclude(pk__in=queryset.filter(free=False).exclude(pk__in=in_force).values("pk"))
            case _:
                return queryset


@admin.register(Model)
class ModelAdmin(BaseAdmin):  # type: ignore[misc]  # unfold ships no types
    """Models, with the price in force, and a warning where there is none or the catalogue gives another."""

    list_display = ("name", "provider", "upstream_shown", "enabled", "input_now", "output_now", "attention")
    list_filter = ("enabled", NeedsAttention, "provider", "free")
    list_select_related = ("provider",)
    search_fields = ("name", "upstream_name")
    readonly_fields = ("created_at",)
    fields = ("name", ("provider", "upstream_name"), ("enabled", "free"), "created_at")
    actions = ("switch_on", "switch_off", "price_by_catalogue")

    class Media:
        css: ClassVar = {"all": ["pricing/prices.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        """Fetch the prices of the whole page at once."""
        models: QuerySet[Model] = super().get_queryset(request)
        return models.prefetch_related("prices")

    def get_urls(self) -> list[URLPattern]:
        """Add the pages that make and withdraw prices."""

        def page(route: str, view: Any, name: str) -> Any:
            return path(route, self.admin_site.admin_view(view), name=f"pricing_model_{name}")

        return [
            page("<path:object_id>/price/", self.price_view, "price"),
            page("<path:object_id>/catalogue/", self.catalogue_view, "catalogue"),
            page("<path:object_id>/price/<int:price_id>/withdraw/", self.withdraw_view, "withdraw"),
            *super().get_urls(),
        ]

    # --- columns ---

    @admin.display(description="provider's name for it", ordering="upstream_name", empty_value="the same")
    def upstream_shown(self, model: Model) -> str | None:
        """Return the provider's name where it is another."""
        return model.upstream_name or None

    @admin.display(description="input, USD per 1M tokens")
    def input_now(self, model: Model) -> SafeString:
        """Return the input price in force now."""
        rates = _rates_now(model)
        return _rate(None if rates is None else rates.input)

    @admin.display(description="output, USD per 1M tokens")
    def output_now(self, model: Model) -> SafeString:
        """Return the output price in force now."""
        rates = _rates_now(model)
        return _rate(None if rates is None else rates.output)

    @admin.display(description="to look at", empty_value="")
    def attention(self, model: Model) -> SafeString | None:
        """Return what somebody should look at."""
        if model.free:
            return format_html('<span class="note">{}</span>', "free")
        if model.rate_card(timezone.now()) is None:
            return format_html('<strong class="grave">{}</strong>', "no price: calls are refused")
        if differing := differences([model], timezone.now()):
            return format_html(
                '<a class="warning" href="{}" title="{}">{}</a>',
                f"{reverse('admin:pricing_model_change', args=[model.pk])}#catalogue",
                "; ".join(_said(one) for one in differing[:6]),
                "catalogue says otherwise",
            )
        return None

    # --- actions ---

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        """Let clients use the models."""
        self._switch(request, queryset, on=True)

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        """Refuse the models to clients."""
        self._switch(request, queryset, on=False)

    @admin.action(description="Price as the catalogue says, from now", permissions=["change"])
    def price_by_catalogue(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        """Add the catalogue's prices, also where somebody had entered others."""
        models = list(queryset.select_related("provider"))
        added = self._take_the_catalogues(request, models)
        messages.success(
            request, f"{added} of {len(models)} got new prices. The others agree, or are not in the catalogue."
        )

    def _take_the_catalogues(self, request: HttpRequest, models: list[Model]) -> int:
        """Add the catalogue's prices of all tiers; return how many models got some."""
        changes = sync_prices(models, timezone.now(), overwrite=True, by=request.user)  # type: ignore[arg-type]
        for change in changes:
            if change.action == "skipped":
                messages.warning(request, f"{change.model}: {change.detail}")
        return len({change.model for change in changes if change.action == "added"})

    def _switch(self, request: HttpRequest, queryset: QuerySet[Model], *, on: bool) -> None:
        changed = list(queryset.exclude(enabled=on))
        Model.objects.filter(pk__in=[model.pk for model in changed]).update(enabled=on)
        count = len(changed)
        messages.success(request, f"{count} model{'s'[: count != 1]} switched {'on' if on else 'off'}.")
        if on and (unpriced := [model.name for model in changed if not _priced(model)]):
            messages.warning(request, f"Calls are refused until they have a price: {', '.join(unpriced[:10])}.")

    # --- pages ---

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the price history below the settings."""
        extra = dict(extra_context or {})
        model: Model | None = self.get_object(request, unquote(object_id))
        if model is not None:
            now = timezone.now()
            model = Model.objects.select_related("provider").prefetch_related("prices__created_by").get(pk=model.pk)
            extra["versions"] = history(model, now)[:_SHOWN]
            extra["differing"] = [] if model.free else differences([model], now)
            extra["priced"] = _priced(model)
            extra["may_price"] = self.has_change_permission(request, model)
        answer: HttpResponse = super().change_view(request, object_id, form_url, extra)
        return answer

    def price_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Add a version to the price list: from now, from the 1st of next month, or from another day."""
        model = self._changeable(request, object_id)
        now = timezone.now()
        from_catalogue = request.GET.get("from") == "catalogue"
        steps = [] if request.method == "POST" else initial_rates(model, now, from_catalogue=from_catalogue)
        form = NewPriceForm(request.POST or None, now=now, initial=steps[0] if steps else {})
        long_form = LongCallsFormSet(request.POST or None, initial=steps[1:], prefix="long")
        if request.method == "POST" and form.is_valid() and long_form.is_valid():
            try:
                made = form.save(model, [step_of(form.cleaned_data), *long_calls(long_form)], request.user)
            except ValidationError as error:
                form.take(error)
            else:
                moment = timezone.localtime(made[0].effective_from)
                messages.success(request, f"Saved: {_summary(made[0])}, from {moment:%-d %B %Y, %H:%M %Z}.")
                return HttpResponseRedirect(reverse("admin:pricing_model_change", args=[model.pk]))
        context = {
            "form": form,
            "long_form": long_form,
            "model": model,
            "from_catalogue": from_catalogue and bool(steps),
            "media": self.media + form.media,
        }
        whole = self.admin_site.each_context(request) | {
            "opts": self.opts,
            "title": f"New price of {model}",
            "original": model,
        }
        return TemplateResponse(request, "admin/pricing/model/price.html", whole | context)

    @method_decorator(require_POST)
    def catalogue_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Price a model as the catalogue does, in every tier, from now."""
        model = self._changeable(request, object_id)
        if self._take_the_catalogues(request, [model]):
            messages.success(request, "Saved: the catalogue's prices are in force from now.")
        else:
            messages.info(request, "Nothing to do: the catalogue and the prices agree, or it does not know the model.")
        return HttpResponseRedirect(reverse("admin:pricing_model_change", args=[model.pk]))

    @method_decorator(require_POST)
    def withdraw_view(self, request: HttpRequest, object_id: str, price_id: int) -> HttpResponse:
        """Take back a price that has not come into force."""
        model = self._changeable(request, object_id)
        price = get_object_or_404(Price.objects.select_related("model"), pk=price_id, model=model)
        try:
            withdraw(price)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        else:
            messages.success(request, f"Withdrawn: {_summary(price)}. The price in force goes on.")
        return HttpResponseRedirect(reverse("admin:pricing_model_change", args=[model.pk]))

    def _changeable(self, request: HttpRequest, object_id: str) -> Model:
        """Return the model. Raises Http404 where there is none for this reader, PermissionDenied to mere readers."""
        model: Model | None = self.get_object(request, unquote(object_id))
        if model is None:
            raise Http404
        if not self.has_change_permission(request, model):
            raise PermissionDenied
        return model


def _rates_now(model: Model) -> Rates | None:
    card: RateCard | None = None if model.free else model.rate_card(timezone.now())
    return None if card is None else card.rates(None, 0)


def _priced(model: Model) -> bool:
    return model.free or model.rate_card(timezone.now()) is not None


def _rate(rate: int | None) -> SafeString:
    return format_html('<span class="rate">{}</span>', rate_text(rate))


def _summary(price: Price) -> str:
    return f"{rate_text(price.input).strip()} in / {rate_text(price.output).strip()} out, USD per 1M tokens"


def _said(one: Difference) -> str:
    ours, theirs = rate_text(one.listed).strip(), rate_text(one.catalogue).strip()
    return f"{one.rate.replace('_', ' ')}: here {ours}, catalogue {theirs}"
