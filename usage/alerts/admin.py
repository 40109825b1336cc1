"""Admin pages of alerts: what was told, who is told, and from where on."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from clients.invitations import mails_are_sent
from pricing.credentials import UnreadableCredential
from pricing.fresh_sign_in import ask_to_sign_in_again, signed_in_lately
from usage.alerts import outbox
from usage.alerts.models import Alert, AlertRules, Delivery, Kind, Receiver

SHOWN = 30
"""Deliveries on a receiver's page."""


@admin.register(Alert)
class AlertAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """What was told: to be read."""

    list_display = ("raised_at", "title", "kind", "about", "told_shown")
    list_filter = ("kind", "raised_at")
    search_fields = ("title", "client__name")
    list_select_related = ("client", "provider")
    fields = ("title", "kind", "raised_at", "about", "deliveries_shown")
    readonly_fields = fields
    list_before_template = "admin/usage/alert_links.html"
    show_full_result_count = False

    class Media:
        css: ClassVar = {"all": ["pricing/prices.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        """Alerts with how many receivers were told, and how many could not be."""
        alerts: QuerySet[Alert] = super().get_queryset(request)
        state = Delivery.State
        return alerts.annotate(
            _told=Count("deliveries", filter=Q(deliveries__state=state.DELIVERED)),
            _waiting=Count("deliveries", filter=Q(deliveries__state=state.WAITING)),
            _failed=Count("deliveries", filter=Q(deliveries__state=state.FAILED)),
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Lead to the receivers and the rules, whoever may see them."""
        context = {
            "receivers": Receiver.objects.filter(enabled=True).count(),
            "sees_receivers": request.user.has_perm("usage.view_receiver"),
            "sees_rules": request.user.has_perm("usage.view_alertrules"),
            **(extra_context or {}),
        }
        answer: HttpResponse = super().changelist_view(request, context)
        return answer

    @admin.display(description="about")
    def about(self, alert: Alert) -> SafeString | str:
        """Return the client, or the provider, with a link."""
        if alert.client is not None:
            return format_html(
                '<a href="{}">{}</a>', reverse("admin:clients_client_change", args=[alert.client.pk]), alert.client
            )
        return str(alert.provider)

    @admin.display(description="told")
    def told_shown(self, alert: Alert) -> str:
        """Return to how many receivers it went."""
        counts = vars(alert)
        parts = [f"{counts['_told']} told"] if counts["_told"] else []
        parts += [f"{counts['_waiting']} being tried"] if counts["_waiting"] else []
        parts += [f"{counts['_failed']} failed"] if counts["_failed"] else []
        return ", ".join(parts) or "nobody wants it"

    @admin.display(description="deliveries")
    def deliveries_shown(self, alert: Alert) -> str:
        """Return to whom it went, and what came of it."""
        found = Delivery.objects.filter(alert=alert).select_related("receiver")
        told = [f"{one.receiver}: {one.told or one.get_state_display()}" for one in found]
        return "; ".join(told) or "Nobody wants to be told of that."


class ReceiverForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A receiver."""

    kinds = forms.MultipleChoiceField(
        label="Of",
        choices=Kind.choices,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None ticked: of everything.",
    )

    class Meta:
        model = Receiver
        fields = ("name", "enabled", "way", "addresses", "url", "kinds", "owner")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["kinds"] = self.instance.kinds_wanted
        if not mails_are_sent() and "way" in self.fields:
            self.fields["way"].help_text = "No mail is sent yet: set EMAIL_URL where the gateway runs."

    def clean_kinds(self) -> str:
        """Return the kinds joined, as the model has them."""
        return ",".join(self.cleaned_data["kinds"])


@admin.register(Receiver)
class ReceiverAdmin(ModelAdmin):  # type: ignore[misc]
    """Who is told."""

    form = ReceiverForm
    list_display = ("name", "way", "goes", "of", "enabled", "last_shown")
    search_fields = ("name", "addresses", "url")
    fieldsets = (
        (None, {"fields": ("name", "enabled")}),
        ("How", {"fields": ("way", "addresses", "url")}),
        ("Of what", {"fields": ("kinds", "owner")}),
    )
    change_form_template = "admin/usage/receiver/change_form.html"

    class Media:
        css: ClassVar = {"all": ["pricing/prices.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Receiver]:
        """Receivers, each with when something last arrived."""
        receivers: QuerySet[Receiver] = super().get_queryset(request)
        arrived = Delivery.objects.filter(receiver=OuterRef("pk"), state=Delivery.State.DELIVERED)
        return receivers.annotate(_arrived=Subquery(arrived.order_by("-tried_at").values("tried_at")[:1]))

    def get_urls(self) -> list[URLPattern]:
        """Add the test, and the secret."""
        view = self.admin_site.admin_view
        own = [
            path("<int:pk>/test/", view(require_POST(self.test_view)), name="usage_receiver_test"),
            path("<int:pk>/secret/", view(require_safe(never_cache(self.secret_view))), name="usage_receiver_secret"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def get_deleted_objects(
        self, objs: Sequence[Receiver], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Say how many deliveries go with receivers, rather than list them by the thousand."""
        deliveries = Delivery.objects.filter(receiver__in=objs).count()
        return [str(one) for one in objs], {"receivers": len(objs), "deliveries": deliveries}, set(), []

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send a test, and say what came of it."""
        receiver = self._changeable(request, pk)
        delivery = outbox.test(receiver, timezone.now())
        if delivery.state == Delivery.State.DELIVERED:
            messages.success(request, f"The test arrived. {delivery.told}.")
        else:
            messages.error(request, f"The test did not arrive. {delivery.told}")
        return HttpResponseRedirect(reverse("admin:usage_receiver_change", args=[pk]))

    def secret_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show what webhooks are signed with, after a fresh sign-in."""
        receiver = self._changeable(request, pk)
        if not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        try:
            secret = receiver.signing_secret()
        except UnreadableCredential:
            secret = ""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": receiver,
            "title": f"Secret of {receiver}",
            "secret": secret,
        }
        return TemplateResponse(request, "admin/usage/receiver/secret.html", context)

    def _changeable(self, request: HttpRequest, pk: int) -> Receiver:
        receiver: Receiver = get_object_or_404(self.get_queryset(request), pk=pk)
        if not self.has_change_permission(request, receiver):
            raise PermissionDenied
        return receiver

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the receiver with what was delivered lately."""
        receiver = self.get_object(request, unquote(object_id))
        found = Delivery.objects.filter(receiver=receiver).select_related("alert")[:SHOWN]
        context = {"deliveries": found, **(extra_context or {})}
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    @admin.display(description="to")
    def goes(self, receiver: Receiver) -> str:
        """Where to; of a URL the host, as its path may be all that guards it."""
        return receiver.addresses or receiver.url.partition("://")[2].partition("/")[0]

    @admin.display(description="of")
    def of(self, receiver: Receiver) -> str:
        """What it is told of."""
        wanted = receiver.kinds_wanted
        return "everything" if not wanted else f"{len(wanted)} kinds" if len(wanted) > 1 else Kind(wanted[0]).label

    @admin.display(description="last told", empty_value="never")
    def last_shown(self, receiver: Receiver) -> datetime | None:
        """When something last arrived."""
        arrived: datetime | None = vars(receiver)["_arrived"]
        return arrived


@admin.register(AlertRules)
class AlertRulesAdmin(ModelAdmin):  # type: ignore[misc]
    """From where on something is told: one page."""

    fieldsets = (
        ("Limits", {"fields": ("percentages", "forecast")}),
        ("Clients", {"fields": ("failed_percent", "silent_days", "unusual_times")}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There is one, always."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There is one, always."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Lead to the one row, made now where nobody has changed any."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        row, _ = AlertRules.objects.get_or_create(pk=1)
        return HttpResponseRedirect(reverse("admin:usage_alertrules_change", args=[row.pk]))
