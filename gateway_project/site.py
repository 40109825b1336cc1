"""The back office: the one admin site, which shows nobody what is not theirs."""

from collections.abc import Iterable
from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import Model
from django.db.models.base import ModelBase
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from unfold.admin import ModelAdmin
from unfold.dataclasses import SearchResult
from unfold.sites import UnfoldAdminSite

from clients import access
from gateway_project.scoped_admin import scoped
from gateway_project.time_zone import time_zone_view

SEARCHED = (("clients.Client", "groups"), ("keys.APIKey", "key"), ("usage.UsageRecord", "receipt_long"))
"""What the search box looks through, with its icons."""
LONGEST_SEARCH = 200
RESULTS_EACH = 10


class BackOfficeSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold ships no types
    """Django's admin in unfold's frame, deny first: only models that clients.access knows, scoped to their reader."""

    index_title = "Back office"
    site_header = site_title = "LLM gateway"
    enable_nav_sidebar = True

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[Any] | None = None,
        **options: Any,
    ) -> None:
        """Register models, scoped to what their reader may see; leave out those that other packages bring along.

        Raises ImproperlyConfigured for a model of which nobody said who sees it.
        """
        ours: Any = admin_class or ModelAdmin
        models = [model_or_iterable] if isinstance(model_or_iterable, ModelBase) else list(model_or_iterable)
        for model in models:
            if model._meta.label_lower in access.HIDDEN:
                continue
            try:
                access.rule_of(model)
            except access.UnknownModel as error:
                raise ImproperlyConfigured(str(error)) from error
            super().register(model, scoped(ours), **options)

    def has_permission(self, request: HttpRequest) -> bool:
        """Let in whoever has a role here."""
        return bool(request.user.is_staff) and access.role_of(request.user) is not None

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the pages that belong to no one model; leave out Django's redirect to any object of any kind."""
        admin.autodiscover()
        # Only here: these modules register their models with the site, which has to be made before.
        from clients.token_page import revoke_view, tokens_view  # noqa: PLC0415
        from gateway_project.settings_page import settings_view, test_mail_view  # noqa: PLC0415
        from keys.onboarding_page import onboard_view  # noqa: PLC0415
        from usage.analytics_page import analytics_view  # noqa: PLC0415
        from usage.client_page import link_view  # noqa: PLC0415
        from usage.closing_page import closing_view  # noqa: PLC0415
        from usage.costs_page import costs_view  # noqa: PLC0415
        from usage.reconcile_page import reconcile_view  # noqa: PLC0415
        from usage.test_call import test_call_view  # noqa: PLC0415

        own = [
            path("onboard/", self.admin_view(onboard_view), name="onboard"),
            path("settings/", self.admin_view(settings_view), name="settings"),
            path("settings/test-mail/", self.admin_view(test_mail_view), name="settings_test_mail"),
            path("time-zone/", self.admin_view(time_zone_view), name="time_zone"),
            path("usage-link/<int:client_id>/", self.admin_view(link_view), name="client_usage_link"),
            path("closing/", self.admin_view(closing_view), name="closing"),
            path("costs/", self.admin_view(costs_view), name="costs"),
            path("reconciliation/", self.admin_view(reconcile_view), name="reconcile"),
            path("analytics/", self.admin_view(analytics_view), name="analytics"),
            path("tokens/", self.admin_view(tokens_view), name="tokens"),
            path("tokens/<int:pk>/revoke/", self.admin_view(revoke_view), name="tokens_revoke"),
            path("test-call/", self.admin_view(test_call_view), name="test_call"),
        ]
        return own + [url for url in super().get_urls() if getattr(url, "name", None) != "view_on_site"]

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """One sign-in for all: lead to /accounts/login/, with its rate limits; refuse whoever has no role here."""
        if request.user.is_authenticated:
            if not self.has_permission(request):
                raise PermissionDenied
            return HttpResponseRedirect(reverse(f"{self.name}:index"))
        answer: HttpResponse = secure_admin_login(super().login)(request, extra_context)
        return answer

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Sign out, and lead to the sign-in."""
        return LogoutView.as_view(next_page="account_login")(request)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """One page for that, too: the sign-in's own."""
        return HttpResponseRedirect(reverse("account_change_password"))

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Find clients by name, keys by hint and calls by id, among what the reader may see; nothing is cached."""
        term = request.GET.get("s", "").strip()[:LONGEST_SEARCH]
        if not term:
            return HttpResponse()
        by_label = {model._meta.label: model_admin for model, model_admin in self._registry.items()}
        results = []
        for label, icon in SEARCHED:
            model_admin = by_label[label]
            if not model_admin.has_view_permission(request):
                continue
            found, _ = model_admin.get_search_results(request, model_admin.get_queryset(request), term)
            name = model_admin.opts.model_name
            for row in found[:RESULTS_EACH]:
                link = reverse(f"{self.name}:{model_admin.opts.app_label}_{name}_change", args=[row.pk])
                kind = str(model_admin.opts.verbose_name)
                results.append(SearchResult(title=str(row), description=kind, link=link, icon=icon))
        context = {"results": results, "page_obj": {"count": len(results)}, "page_counter": 0, "execution_time": 0}
        name = "command" if "extended" in request.GET else "search"
        return TemplateResponse(request, f"unfold/helpers/{name}_results.html", context)
