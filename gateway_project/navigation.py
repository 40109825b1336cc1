"""The back office's sidebar and account menu, in users' words."""

from functools import cache
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse


class Entry(NamedTuple):
    """A line of the sidebar: shown where its page exists, to those with its permission."""

    title: str
    icon: str  # of Material Symbols
    page: str  # name of a URL
    permission: str | None = None


SIDEBAR: Final = [
    [
        Entry("Home", "home", "admin:index"),
        Entry("Analytics", "monitoring", "admin:analytics", "usage.view_usagerecord"),
        Entry("Costs", "payments", "admin:costs", "usage.view_usagerecord"),
        Entry("Clients", "groups", "admin:clients_client_changelist", "clients.view_client"),
        Entry("Keys", "key", "admin:keys_apikey_changelist", "keys.view_apikey"),
        Entry("Usage", "receipt_long", "admin:usage_usagerecord_changelist", "usage.view_usagerecord"),
        Entry("Alerts", "notifications", "admin:usage_alert_changelist", "usage.view_alert"),
        Entry("Exports", "schedule_send", "admin:usage_exportschedule_changelist", "usage.view_exportschedule"),
        Entry("Statements", "request_quote", "admin:usage_statement_changelist", "usage.view_statement"),
        Entry("Terms", "handshake", "admin:usage_terms_changelist", "usage.view_terms"),
        Entry("Re-ratings", "price_change", "admin:usage_rerating_changelist", "usage.view_rerating"),
        Entry("Reconciliation", "balance", "admin:reconcile", "usage.view_reconciliation"),
    ],
    [
        Entry("Models & prices", "sell", "admin:pricing_model_changelist", "pricing.view_model"),
        Entry("Providers", "cloud", "admin:pricing_provider_changelist", "pricing.view_provider"),
        Entry("Plans", "layers", "admin:clients_plan_changelist", "clients.view_plan"),
    ],
    [
        Entry("Team", "badge", "admin:auth_user_changelist", "auth.view_user"),
        Entry("Audit log", "history", "admin:clients_auditentry_changelist", "clients.view_auditentry"),
        Entry("Settings", "settings", "admin:settings"),
    ],
]
"""Groups of entries."""


_ACCOUNT: Final = (
    ("admin:time_zone", "Time zone"),
    ("mfa_index", "Second factor"),
    ("usersessions_list", "Sessions"),
    ("admin:tokens", "API tokens"),
    ("account_change_password", "Change password"),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar for whoever asks, as unfold wants it."""
    groups: list[dict[str, Any]] = []
    for entries in SIDEBAR:
        items = [
            {"title": entry.title, "icon": entry.icon, "link": link}
            for entry in entries
            if (link := _link(entry.page)) and (entry.permission is None or request.user.has_perm(entry.permission))
        ]
        groups.append({"separator": bool(groups), "items": items})
    return [group for group in groups if group["items"]]


def title_of(page: str) -> str | None:
    """Return what the sidebar calls the page of that URL's name, None where it does not lead there."""
    return next((entry.title for entries in SIDEBAR for entry in entries if entry.page == page), None)


def account(request: HttpRequest) -> list[dict[str, str]]:
    """Return the links of the menu behind the user's name."""
    return [{"title": title, "link": link} for page, title in _ACCOUNT if (link := _link(page))]


def favicon(request: HttpRequest) -> str:
    """Return where the picture for the browser's tab is."""
    return static("gateway_project/favicon.svg")


def frame_style(request: HttpRequest) -> str:
    """Return where the style sheet of every page is."""
    return static("gateway_project/frame.css")


def time_zone_script(request: HttpRequest) -> str:
    """Return where the script is that tells the browser's time zone."""
    return static("gateway_project/time_zone.js")


def search_script(request: HttpRequest) -> str:
    """Return where the script is that keeps keys out of the addresses of searches."""
    return static("keys/search.js")


def frame(request: HttpRequest) -> dict[str, Any]:
    """Give pages outside the admin, the sign-in's and hand-over links, what its frame needs. A context processor."""
    if not request.path.startswith(("/accounts/", "/keys/", "/usage/")):
        return {}
    page = request.resolver_match.view_name if request.resolver_match else ""
    return admin.site.each_context(request) | {"title": dict(_ACCOUNT).get(page, "Your account")}


@cache
def sidebar_words() -> dict[str, str]:
    """Return what the sidebar calls kinds of things, by what their models do."""
    kinds = {f"admin:{model._meta.label_lower.replace('.', '_')}_changelist": model for model in apps.get_models()}
    return {
        str(kinds[entry.page]._meta.verbose_name_plural): entry.title
        for entries in SIDEBAR
        for entry in entries
        if entry.page in kinds
    }


def _link(page: str) -> str | None:
    try:
        return reverse(page)
    except NoReverseMatch:
        return None
