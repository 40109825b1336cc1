"""Admin pages of keys: issue, regenerate, revoke."""

from collections.abc import Callable
from datetime import timedelta
from functools import reduce
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline

from clients.admin import ClientAdmin
from clients.limit_forms import LimitForm, LimitInline
from clients.models import Client
from keys import handover, lifecycle
from keys.handover_page import make_view
from keys.key_forms import IssueForm, LimitsOfKeyFormSet, RegenerateForm, RevokeForm
from keys.models import AllowedModel, APIKey, APIKeyQuerySet, KeyLimit
from keys.show_once import keep_to_show, show_once
from pricing.fresh_sign_in import ask_to_sign_in_again, signed_in_lately
from pricing.money import format_sum


class StateFilter(admin.SimpleListFilter):
    """Keys that work, and those that do not."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [
            ("working", "Working"),
            ("7", "Expiring within 7 days"),
            ("30", "Expiring within 30 days"),
            ("expired", "Expired"),
            ("revoked", "Revoked"),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[APIKey]:
        """Return the keys in the chosen state now."""
        keys: APIKeyQuerySet = queryset
        match self.value():
            case "working":
                return keys.working()
            case "7" | "30" as days:
                return keys.expiring(timedelta(days=int(days)))
            case "expired":
                return keys.expired()
            case "revoked":
                return keys.revoked()
            case _:
                return keys


class UseFilter(admin.SimpleListFilter):
    """Keys that nobody uses: handed over and forgotten, or replaced by another."""

    title = "use"
    parameter_name = "used"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [("never", "Never used"), ("30", "Not used for 30 days"), ("7", "Used within 7 days")]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[APIKey]:
        """Return those."""
        keys: APIKeyQuerySet = queryset
        match self.value():
            case "never":
                return keys.filter(use__last_used_at=None)
            case "30":
                return keys.exclude(use__last_used_at__gte=timezone.now() - timedelta(days=30))
            case "7":
                return keys.filter(use__last_used_at__gte=timezone.now() - timedelta(days=7))
            case _:
                return keys


class AllowedModels(TabularInline):  # type: ignore[misc]  # unfold ships no types
    """The only models that may be used with a key."""

    model = AllowedModel
    verbose_name_plural = "allowed models (none: all)"
    extra = 1


class KeyLimitForm(LimitForm):
    """A limit of a key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        metric = self.fields["metric"]
        metric.choices = [choice for choice in metric.choices if choice[0] != "sessions"]  # type: ignore[attr-defined]


class KeyLimits(LimitInline):
    """What may be used with a key, beside what its client may use."""

    model = KeyLimit
    form = KeyLimitForm
    verbose_name_plural = "limits of this key alone (those of its client hold as well)"
    extra = 1


class ShowsUse:
    """Columns on the state and use of a key, for its own page and its client's."""

    @admin.display(description="state")
    def state_shown(self, key: APIKey) -> str:
        """Return the state now."""
        return key.state(timezone.now())

    @admin.display(description="last used", ordering="use__last_used_at", empty_value="never")
    def last_used(self, key: APIKey) -> str | None:
        """Return when the key was last used, to the minute."""
        moment = key.use.last_used_at if hasattr(key, "use") else None
        return None if moment is None else date_format(timezone.localtime(moment), "DATETIME_FORMAT")

    @admin.display(description="from")
    def last_from(self, key: APIKey) -> str:
        """Return the address and the user agent of the last use."""
        if not hasattr(key, "use") or not key.use.last_address:
            return "–"
        return f"{key.use.last_address}, {key.use.last_user_agent or 'no user agent'}"

    @admin.display(description="calls", ordering="use__calls")
    def calls(self, key: APIKey) -> str:
        """Return all calls ever."""
        return f"{key.use.calls:,}" if hasattr(key, "use") else "0"

    @admin.display(description="tokens", ordering="use__tokens")
    def tokens(self, key: APIKey) -> str:
        """Return all tokens ever."""
        return f"{key.use.tokens:,}" if hasattr(key, "use") else "0"

    @admin.display(description="charged (USD)", ordering="use__charge")
    def charge(self, key: APIKey) -> str:
        """Return all that was charged ever."""
        return format_sum(key.use.charge if hasattr(key, "use") else 0)


@admin.register(APIKey)
class APIKeyAdmin(ShowsUse, ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Keys. Only the name can be edited; all else happens through the buttons. Keys are never deleted."""

    list_display = ("__str__", "client", "state_shown", "expires_at", "last_used", "calls", "tokens", "charge")
    list_filter = (StateFilter, UseFilter, "client")
    list_select_related = ("client", "use")
    search_fields = ("name", "hint", "client__name")
    fields = (
        "name",
        "client",
        "hint",
        "state_shown",
        "created_at",
        "expires_at",
        "revoked_at",
        "revoked_reason",
        "replacement",
        "handed_over",
        "last_used",
        "last_from",
        "calls",
        "tokens",
        "charge",
    )
    readonly_fields = fields[1:]
    inlines = [KeyLimits, AllowedModels]

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Set the allowed models all at once."""
        if formset.model is not AllowedModel:
            super().save_formset(request, form, formset, change)
            return
        rows = [row for row in formset.cleaned_data if row.get("model") and not row.get("DELETE")]
        lifecycle.allow_models(form.instance, [row["model"] for row in rows])
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []  # Django asks for them

    def has_delete_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        """Keys stay on record: they are revoked instead."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Add the pages behind the buttons."""
        view = self.admin_site.admin_view
        return [
            path("<int:key_id>/regenerate/", view(self.regenerate_view), name="keys_apikey_regenerate"),
            path("<int:key_id>/revoke/", view(self.revoke_view), name="keys_apikey_revoke"),
            path("<int:key_id>/new/", view(self.show_once_view), name="keys_apikey_show_once"),
            path("<int:key_id>/handover/", view(self.handover_view), name="keys_apikey_handover"),
            path("<int:key_id>/withdraw/", view(self.withdraw_view), name="keys_apikey_withdraw"),
            *super().get_urls(),
        ]

    @admin.display(description="replaced by")
    def replacement(self, key: APIKey) -> str:
        """Return a link to the key that replaced this one."""
        if key.replaced_by is None:
            return "–"
        return format_html('<a href="{}">{}</a>', _page("change", key.replaced_by), key.replaced_by)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Issue a key, then show it once."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = IssueForm(_sent(request), initial={"client": request.GET.get("client")}, user=request.user)
        limits = LimitsOfKeyFormSet(_sent(request), prefix="limits")
        if form.is_valid() & limits.is_valid():
            own = [row.written for row in limits.forms if row.written]
            try:
                key, plain = lifecycle.issue(**form.cleaned_data, limits=own)
            except ValidationError as error:
                form.add_error(None, " ".join(error.messages))
            else:
                return keep_to_show(request, key, plain)
        return self._ask(request, None, form, title="Issue a key", button="Issue", limits=limits)

    def regenerate_view(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """Replace a key after a fresh sign-in, then show the new one once."""
        if not (self.has_add_permission(request) and self.has_change_permission(request)):
            raise PermissionDenied
        key = get_object_or_404(self.get_queryset(request), pk=key_id)
        if not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        form = RegenerateForm(_sent(request))
        if form.is_valid():
            try:
                new, plain = lifecycle.regenerate(key, form.cleaned_data["grace"])
            except ValidationError as error:
                form.add_error(None, " ".join(error.messages))
            else:
                return keep_to_show(request, new, plain)
        text = "A new key is made for the same client. Whoever uses the old one needs the new one before it ends."
        return self._ask(request, key, form, title=f"Regenerate {key} of {key.client}", text=text, button="Regenerate")

    def revoke_view(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """End a key, without a fresh sign-in: one that leaked must be dead in seconds."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        key = get_object_or_404(self.get_queryset(request), pk=key_id)
        form = RevokeForm(_sent(request))
        if form.is_valid():
            try:
                lifecycle.revoke(key, form.cleaned_data["reason"])
            except ValidationError as error:
                form.add_error(None, " ".join(error.messages))
            else:
                messages.success(request, f"{key} is revoked: it is refused everywhere within a second.")
                return HttpResponseRedirect(_page("change", key))
        text = "Every call with it is refused within a second. This can not be undone."
        return self._ask(request, key, form, title=f"Revoke {key} of {key.client}", text=text, button="Revoke")

    def show_once_view(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """Show the text of a new key to the session that made it, the first time it asks."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return show_once(request, self, key_id)

    def handover_view(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """Make a link that shows the key once to whoever gets it."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        return make_view(request, self, get_object_or_404(self.get_queryset(request), pk=key_id))

    def withdraw_view(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """Let a link show nothing any more."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        key = get_object_or_404(self.get_queryset(request), pk=key_id)
        if request.method == "POST":
            handover.withdraw(key.pk)
            messages.success(request, "The link shows nothing any more. The key itself goes on working.")
            return HttpResponseRedirect(_page("change", key))
        text = "Whoever opens the link sees no key. The key itself goes on working; revoke it if it may have leaked."
        return self._ask(request, key, forms.Form(), title=f"Withdraw the link of {key}", text=text, button="Withdraw")

    @admin.display(description="hand-over link")
    def handed_over(self, key: APIKey) -> str:
        """Return whether a link waits, or when and from where it was opened."""
        link = getattr(key, "handover", None)
        if link is None:
            return "none"
        match link.state(timezone.now()):
            case "opened":
                when = date_format(timezone.localtime(link.opened_at), "DATETIME_FORMAT")
                return f"opened on {when} from {link.opened_address or 'an unknown address'}, {link.opened_user_agent}"
            case "ready":
                until = date_format(timezone.localtime(link.expires_at), "DATETIME_FORMAT")
                return format_html(
                    'not opened yet, works until {}. <a class="underline" href="{}">Withdraw it</a>',
                    until,
                    _page("withdraw", key),
                )
            case state:
                return f"{state}, never opened"

    def _ask(self, request: HttpRequest, key: APIKey | None, form: forms.Form, **context: Any) -> HttpResponse:
        context_whole = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "key": key,
            "original": key,  # of the way back at the top
            "form": form,
            "back": _page("change", key) if key else _page("changelist"),
            **context,
        }
        return TemplateResponse(request, "admin/keys/apikey/ask.html", context_whole)


class KeysOfClient(ShowsUse, TabularInline):  # type: ignore[misc]  # unfold ships no types
    """The keys of a client, on its page."""

    model = APIKey
    verbose_name_plural = "keys"
    fields: tuple[Any, ...] = ("key_shown", "state_shown", "expires_at", "last_used", "charge")
    readonly_fields = fields
    adds_to_list: ClassVar[list[Callable[[QuerySet[APIKey]], QuerySet[APIKey]]]] = []
    """What apps that keys knows nothing of read for the columns that they add."""
    can_delete = False
    show_change_link = True
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        """Fetch the use of all keys at once."""
        keys: QuerySet[APIKey] = super().get_queryset(request)
        return reduce(lambda so_far, add: add(so_far), self.adds_to_list, keys.select_related("use"))

    def has_add_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        """Keys are issued on a page of their own."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        """Keys are changed on their own pages."""
        return False

    @admin.display(description="key")
    def key_shown(self, key: APIKey) -> str:
        """Return a link to the key."""
        return format_html('<a href="{}">{}</a>', _page("change", key), key)


def _sent(request: HttpRequest) -> QueryDict | None:
    return request.POST if request.method == "POST" else None


def _page(name: str, key: APIKey | None = None) -> str:
    return reverse(f"admin:keys_apikey_{name}", args=[key.pk] if key else [])


ClientAdmin.inlines = [*ClientAdmin.inlines, KeysOfClient]  # here, since clients knows nothing of keys
