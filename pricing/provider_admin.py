"""Admin pages of providers: settings, address and key, a test of the connection, and the import of models."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin as BaseAdmin
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from pricing import connection_test, importing
from pricing.connection_test import Outcome
from pricing.fresh_sign_in import ask_to_sign_in_again, signed_in_lately
from pricing.models import Provider
from pricing.rate_text import per_million

_LONGEST_KEY = 4_000


class KeyField(forms.CharField):
    """A provider's API key: it goes in and never comes out again."""

    def __init__(self, **kwargs: Any) -> None:
        widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
        super().__init__(**{"required": False, "max_length": _LONGEST_KEY, "widget": widget, **kwargs})


class AddForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A new provider, with its address and key."""

    claimed_by: User | None = None
    """Whose the provider will be, where the form does not ask: names are judged among that operator's."""
    new_credential = KeyField(label="Key", help_text="The provider's API key. It is encrypted, and never shown again.")

    class Meta:
        model = Provider
        fields = ("name", "base_url")

    def clean(self) -> dict[str, Any]:
        """Put the key into the instance, encrypted."""
        data = super().clean() or self.cleaned_data
        if self.claimed_by is not None:
            self.instance.owner = self.claimed_by
        if plain := data.get("new_credential", ""):
            _put_key(self.instance, plain)
        return data


class ConnectionForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """Where a provider is and the key it takes."""

    base_url = forms.CharField(
        label="Base URL",
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="Ends in the version: https://api.openai.com/v1. For another server, enter its key as well.",
    )
    new_credential = KeyField(label="New key", help_text="Leave empty to keep the present one.")
    remove_credential = forms.BooleanField(label="Remove the present key", required=False, widget=UnfoldBooleanWidget)

    class Meta:
        model = Provider
        fields = ("base_url",)

    def clean(self) -> dict[str, Any]:
        """Put the new key into the instance, encrypted, or take the present one away."""
        data = super().clean() or self.cleaned_data
        plain = data.get("new_credential", "")
        if plain and data.get("remove_credential"):
            raise ValidationError({"remove_credential": "Either enter a new key or remove the present one."})
        if plain or data.get("remove_credential"):
            _put_key(self.instance, plain)
        return data


class TestForm(forms.Form):
    """Values of a page that is not saved yet, to be tested."""

    base_url = forms.CharField(required=False, max_length=500)
    new_credential = KeyField()


@admin.register(Provider)
class ProviderAdmin(BaseAdmin):  # type: ignore[misc]  # unfold ships no types
    """Providers, with the last four of their key."""

    list_display = ("name", "base_url", "serves", "credential_shown", "models_count", "enabled")
    list_filter = ("enabled", "billed_to_client", "owner")
    list_select_related = ("owner",)
    search_fields = ("name", "base_url")
    readonly_fields = ("kind", "created_at")
    # who only reads learns nothing of a credential, not even its last four
    needs_permission: ClassVar = {"credential_shown": "pricing.change_provider"}
    timeouts = (
        "Timeouts (seconds)",
        {"fields": (("connect_timeout", "first_byte_timeout"), ("idle_timeout", "total_timeout"))},
    )
    fieldsets = ((None, {"fields": ("name", "enabled", ("owner", "billed_to_client"), "created_at")}), timeouts)
    add_fieldsets = (
        (None, {"fields": ("name", "base_url", "new_credential", ("owner", "billed_to_client"))}),
        # folded: the defaults are good, and the button that tests the connection stays near the key
        (timeouts[0], timeouts[1] | {"classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        """Count the models of the whole page at once."""
        providers: QuerySet[Provider] = super().get_queryset(request)
        return providers.annotate(models_count=Count("models"))

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Show the last four of a key to those who may change that provider."""
        if not request.user.has_perm(self.needs_permission["credential_shown"]):
            return list(self.list_display)

        @admin.display(description="key")
        def key(provider: Provider) -> str:
            if provider.credential_encrypted and not self.has_change_permission(request, provider):
                return "set"
            return self.credential_shown(provider)

        return [key if column == "credential_shown" else column for column in self.list_display]

    def get_form(self, request: HttpRequest, obj: Provider | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Ask for address and key of a new provider only; they are changed on a page of their own."""
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        form = super().get_form(request, obj, change, form=AddForm, **kwargs)
        if "owner" in self.get_readonly_fields(request, obj):
            form.claimed_by = request.user
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Say what an empty choice of the owner means."""
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if field is not None and db_field.name == "owner":
            field.empty_label = "Everybody's"
        return field

    def get_urls(self) -> list[URLPattern]:
        """Add the pages for the connection and the import."""

        def page(route: str, view: Any, name: str) -> Any:
            return path(route, self.admin_site.admin_view(view), name=f"pricing_provider_{name}")

        return [
            page("test/", self.test_view, "test_new"),
            page("<path:object_id>/test/", self.test_view, "test"),
            page("<path:object_id>/connection/", self.connection_view, "connection"),
            page("<path:object_id>/import/", self.import_view, "import"),
            *super().get_urls(),
        ]

    # --- columns ---

    @admin.display(description="serves", ordering="owner__username")
    def serves(self, provider: Provider) -> str:
        """Return whose calls it takes."""
        if provider.billed_to_client:
            return "a client's own account"
        return "everybody's clients" if provider.owner is None else f"clients of {provider.owner}"

    @admin.display(description="key")
    def credential_shown(self, provider: Provider) -> str:
        """Return the last four characters, as far as the key is long enough to tell them."""
        return provider.credential_shown

    @admin.display(description="models", ordering="models_count")
    def models_count(self, provider: Any) -> int:
        """Return how many models it has here."""
        return int(provider.models_count)

    # --- pages ---

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the connection above the settings."""
        extra = {"key_shown": self.credential_shown} | (extra_context or {})
        provider = self.get_object(request, unquote(object_id))
        if provider is not None:
            extra["key_shown"] = self.credential_shown(provider)
            extra["may_change"] = self.has_change_permission(request, provider)
        answer: HttpResponse = super().change_view(request, object_id, form_url, extra)
        return answer

    @method_decorator(sensitive_post_parameters("new_credential"))
    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Keep the key out of reports of errors."""
        answer: HttpResponse = super().add_view(request, *args, **kwargs)
        return answer

    @method_decorator([never_cache, sensitive_post_parameters("new_credential")])
    def connection_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Change address and key, after a fresh sign-in."""
        provider = self._changeable(request, object_id)
        if not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        form = ConnectionForm(request.POST or None, instance=provider)
        if request.method == "POST" and form.is_valid():
            form.save()
            messages.success(request, f"Saved. New calls to {provider} go there within a second.")
            return HttpResponseRedirect(reverse("admin:pricing_provider_change", args=[provider.pk]))
        present = Provider.objects.get(pk=provider.pk)
        title = f"Address and key of {present}"
        context = {"form": form, "provider": present, "key_shown": self.credential_shown(present)}
        return self._page(request, "connection", title, present, context)

    @method_decorator([require_POST, sensitive_post_parameters("new_credential")])
    def test_view(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """Test a connection, with the values on the page where it is not saved yet; say in words what came of it."""
        if object_id is None:
            if not self.has_add_permission(request):
                raise PermissionDenied
            provider = Provider()
        else:
            provider = self._changeable(request, object_id)
        outcome = _outcome(provider, TestForm(request.POST))
        if "HX-Request" in request.headers:
            return TemplateResponse(request, "admin/pricing/provider/outcome.html", {"outcome": outcome})
        messages.add_message(
            request, messages.SUCCESS if outcome.ok else messages.ERROR, f"{outcome.message} {outcome.advice}"
        )
        back = ("admin:pricing_provider_change", [provider.pk]) if provider.pk else ("admin:pricing_provider_add", [])
        return HttpResponseRedirect(reverse(back[0], args=back[1]))

    @method_decorator(never_cache)
    def import_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what the provider lists, and make models of what is ticked."""
        provider = self._changeable(request, object_id)
        error = ""
        if request.method == "POST":
            try:
                return self._import(request, provider)
            except ValidationError as refused:
                error = " ".join(refused.messages)
        found: list[importing.Found] = []
        try:
            found = importing.discover(provider)
        except ValidationError as refused:
            error = error or " ".join(refused.messages)
        new = [one for one in found if one.state is importing.State.NEW]
        rows = [
            (one, per_million(one.price.input) if one.price else "", per_million(one.price.output) if one.price else "")
            for one in sorted(
                found, key=lambda one: (one.state is not importing.State.NEW, one.price is None, one.name)
            )
        ]
        context = {"rows": rows, "found": found, "new": new, "error": error, "provider": provider}
        return self._page(request, "import", f"Import models of {provider}", provider, context)

    def _import(self, request: HttpRequest, provider: Provider) -> HttpResponse:
        names = request.POST.getlist("model")
        if not names:
            raise ValidationError("Tick the models to import.")
        imported = importing.import_models(provider, names, request.user)  # type: ignore[arg-type]
        if imported.made:
            count = len(imported.made)
            messages.success(request, f"{count} model{'s'[: count > 1]} imported from {provider}.")
        if imported.unpriced:
            names = [model.name for model in imported.unpriced[:5]]
            more = f" and {len(imported.unpriced) - 5} more" if len(imported.unpriced) > 5 else ""
            messages.warning(request, f"Without a price, so switched off: {', '.join(names)}{more}. Give them a price.")
        if imported.skipped:
            messages.info(request, f"{len(imported.skipped)} were here already.")
        return HttpResponseRedirect(f"{reverse('admin:pricing_model_changelist')}?provider__id__exact={provider.pk}")

    def _changeable(self, request: HttpRequest, object_id: str) -> Provider:
        """Return the provider. Raises Http404 where there is none for this reader, PermissionDenied to mere readers."""
        provider: Provider | None = self.get_object(request, unquote(object_id))
        if provider is None:
            raise Http404
        if not self.has_change_permission(request, provider):
            raise PermissionDenied
        return provider

    def _page(
        self, request: HttpRequest, name: str, title: str, provider: Provider, context: dict[str, Any]
    ) -> HttpResponse:
        whole = self.admin_site.each_context(request) | {"opts": self.opts, "title": title, "original": provider}
        return TemplateResponse(request, f"admin/pricing/provider/{name}.html", whole | context)


def _outcome(provider: Provider, form: TestForm) -> Outcome:
    """Test a provider with what a form says instead of what is saved."""
    if not form.is_valid():
        return Outcome(False, "form", "The base URL or the key is too long.", "Correct it.", 0, 0)
    if base_url := form.cleaned_data["base_url"].strip():
        provider.base_url = base_url.rstrip("/")
    try:
        if key := form.cleaned_data["new_credential"]:
            provider.set_credential(key)
        provider.refuse_to_move_credential()
    except ValidationError as error:
        return Outcome(False, "form", " ".join(error.messages), "", 0, 0)
    return connection_test.check(provider)


def _put_key(provider: Provider, plain: str) -> None:
    try:
        provider.set_credential(plain)
    except ValidationError as error:
        raise ValidationError({"new_credential": error}) from error
