"""Admin pages of providers, models and their prices."""

from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin as BaseAdmin
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanWidget

from pricing.models import Model, Price, Provider
from pricing.money import rate_to_million
from pricing.quotes import RateCard


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A provider; its credential goes in and never comes out again."""

    new_credential = forms.CharField(
        label="Credential",
        required=False,
        strip=True,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="The provider's API key. Never shown again; leave empty to keep the present one.",
    )
    remove_credential = forms.BooleanField(required=False, widget=UnfoldBooleanWidget)

    class Meta:
        model = Provider
        fields = (
            "name",
            "kind",
            "base_url",
            "owner",
            "enabled",
            "connect_timeout",
            "first_byte_timeout",
            "idle_timeout",
            "total_timeout",
        )

    def clean(self) -> dict[str, Any]:
        """Put a new credential into the instance, encrypted."""
        data = super().clean() or self.cleaned_data
        plain = data.get("new_credential", "")
        if plain and data.get("remove_credential"):
            raise ValidationError({"remove_credential": "Either enter a new credential or remove the present one."})
        if plain or data.get("remove_credential"):
            try:
                self.instance.set_credential(plain)
            except ValidationError as error:
                raise ValidationError({"new_credential": error}) from error
        return data


@admin.register(Provider)
class ProviderAdmin(BaseAdmin):  # type: ignore[misc]  # unfold ships no types
    """Providers, with the last four of their credential."""

    form = ProviderForm
    list_display = ("name", "kind", "base_url", "credential_shown", "enabled")
    list_filter = ("enabled", "kind")
    search_fields = ("name", "base_url")
    readonly_fields = ("credential_shown", "created_at")
    # who only reads learns nothing of a credential, not even its last four
    needs_permission: ClassVar = {"credential_shown": "pricing.change_provider"}
    fieldsets = (
        (None, {"fields": ("name", "kind", "base_url", "owner", "enabled", "created_at")}),
        ("Credential", {"fields": ("credential_shown", "new_credential", "remove_credential")}),
        (
            "Time-outs (seconds)",
            {"fields": ("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout")},
        ),
    )

    @admin.display(description="present credential")
    def credential_shown(self, provider: Provider) -> str:
        """Return the last four characters, as far as the credential is long enough to tell them."""
        if not provider.credential_encrypted:
            return "none"
        return f"…{provider.credential_hint}" if provider.credential_hint else "set"


class PriceHistory(TabularInline):  # type: ignore[misc]  # unfold ships no types
    """All versions of a model's prices, the newest first; nothing here can be changed."""

    model = Price
    verbose_name_plural = "Price history (USD per 1M tokens)"
    fields = readonly_fields = (
        "effective_from",
        "service_tier",
        "above_tokens",
        "input_shown",
        "cached_input_shown",
        "cache_write_shown",
        "output_shown",
        "audio_input_shown",
        "audio_output_shown",
        "source",
    )
    ordering = ("-effective_from", "service_tier", "above_tokens")
    can_delete = False
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Prices are added in the form below the history."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Prices are history: a change is a new version."""
        return False

    @admin.display(description="input")
    def input_shown(self, price: Price) -> str:
        """Return USD per 1M tokens."""
        return _per_million(price.input)

    @admin.display(description="cached input")
    def cached_input_shown(self, price: Price) -> str:
        """Return USD per 1M tokens."""
        return _per_million(price.cached_input)

    @admin.display(description="cache write")
    def cache_write_shown(self, price: Price) -> str:
        """Return USD per 1M tokens."""
        return _per_million(price.cache_write)

    @admin.display(description="output")
    def output_shown(self, price: Price) -> str:
        """Return USD per 1M tokens."""
        return _per_million(price.output)

    @admin.display(description="audio input")
    def audio_input_shown(self, price: Price) -> str:
        """Return USD per 1M tokens."""
        return _per_million(price.audio_input)

    @admin.display(description="audio output")
    def audio_output_shown(self, price: Price) -> str:
        """Return USD per 1M tokens."""
        return _per_million(price.audio_output)


class NewPriceFormSet(BaseInlineFormSet):  # type: ignore[type-arg]  # generic in the stubs only
    """Prices to add."""

    def clean(self) -> None:
        """Refuse a long-context step whose version has no rates for shorter calls: it would not come into force."""
        super().clean()
        new = [form.instance for form in self.forms if form.has_changed() and form.is_valid()]
        based = {(price.service_tier, price.effective_from) for price in new if price.above_tokens == 0}
        for price in new:
            version: tuple[str, datetime] = (price.service_tier, price.effective_from)
            if price.above_tokens and version not in based:
                raise ValidationError(
                    f"The step above {price.above_tokens} tokens needs one for 0 tokens, of the same tier and moment."
                )


class NewPrices(TabularInline):  # type: ignore[misc]  # unfold ships no types
    """The form that adds a version: a row for 0 tokens, and one for each long-context step."""

    model = Price
    formset = NewPriceFormSet
    verbose_name = "price"
    verbose_name_plural = "Add prices (USD per 1M tokens; empty: as input, or as output)"
    extra = 0
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        """Show none of the existing ones: the history above does."""
        prices: QuerySet[Price] = super().get_queryset(request)
        return prices.none()


@admin.register(Model)
class ModelAdmin(BaseAdmin):  # type: ignore[misc]  # unfold ships no types
    """Models, with the price in force or a warning that there is none."""

    list_display = ("name", "provider", "upstream", "enabled", "price_now")
    list_filter = ("enabled", "provider", "free")
    list_select_related = ("provider",)
    search_fields = ("name", "upstream_name")
    readonly_fields = ("price_now", "created_at")
    fields = ("name", "provider", "upstream_name", "enabled", "free", "price_now", "created_at")
    inlines = (PriceHistory, NewPrices)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        """Fetch the prices of the whole page at once."""
        models: QuerySet[Model] = super().get_queryset(request)
        return models.prefetch_related("prices")

    @admin.display(description="price (USD per 1M tokens)")
    def price_now(self, model: Model) -> str:
        """Return input / output in force now, 'free', or the warning."""
        if model.free:
            return "free"
        card = model.rate_card(timezone.now()) if model.pk else None
        if card is None:
            return format_html(
                '<strong class="text-red-700 dark:text-red-400">{}</strong>', "⚠ no price: calls are refused"
            )
        return _summary(card)


def _summary(card: RateCard) -> str:
    rates = card.rates(None, 0)
    more = " …" if len(card.tiers) > 1 or len(card.steps(None)) > 1 else ""
    return f"{_per_million(rates.input)} in / {_per_million(rates.output)} out{more}"


def _per_million(rate: int | None) -> str:
    return "–" if rate is None else f"{rate_to_million(rate):f}"
