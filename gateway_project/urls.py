"""The control plane's addresses. The data plane's are no business of Django's."""

from typing import Any

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from clients.api import ClientDetail, ClientList, ClientPlan, ClientStatus, PlanDetail, PlanList
from clients.invitation_page import invitation_view
from clients.logo_pictures import logo_view
from clients.price_api import ClientPrices, ModelDetail, ModelList, ModelPrices, ProviderList
from gateway_project.guessing import by_session, by_typed, remembered, slowed
from keys.api import KeyDetail, KeyList, KeyRegenerate, KeyRevoke, Onboard
from keys.handover_page import handover_view
from usage.api import ClientLimits, CostReport, Health, UsageDetail, UsageList, UsageSummary
from usage.client_page import client_view, statement_view
from usage.closing_api import Closing
from usage.statement_api import StatementDetail, StatementList, StatementPDF

OPEN: dict[str, Any] = {"authentication_classes": [], "permission_classes": []}
"""What the API can do is no secret, as it is in the documentation; it says nothing of anybody."""

sign_in = remembered(slowed(account.login, "sign-in", by_typed("login"), per_address="20/m", per_account="10/5m"))
reset = slowed(account.password_reset, "reset", by_typed("email"), per_address="10/5m", per_account="3/5m")
confirm = slowed(account.reauthenticate, "confirm", by_session, per_address="20/m", per_account="10/5m")
confirm_by_code = slowed(mfa.reauthenticate, "confirm", by_session, per_address="20/m", per_account="10/5m")

handler429 = "gateway_project.guessing.too_many"
api = [
    path("clients/", ClientList.as_view(), name="api_clients"),
    path("clients/<int:pk>/", ClientDetail.as_view(), name="api_client"),
    path("clients/<int:pk>/limits/", ClientLimits.as_view(), name="api_client_limits"),
    path("clients/<int:pk>/prices/", ClientPrices.as_view(), name="api_client_prices"),
    path("clients/<int:pk>/plan/", ClientPlan.as_view(), name="api_client_plan"),
    path("clients/<int:pk>/suspend/", ClientStatus.as_view(act="suspend"), name="api_client_suspend"),
    path("clients/<int:pk>/activate/", ClientStatus.as_view(act="activate"), name="api_client_activate"),
    path("clients/<int:pk>/archive/", ClientStatus.as_view(act="archive"), name="api_client_archive"),
    path("onboard/", Onboard.as_view(), name="api_onboard"),
    path("plans/", PlanList.as_view(), name="api_plans"),
    path("plans/<int:pk>/", PlanDetail.as_view(), name="api_plan"),
    path("keys/", KeyList.as_view(), name="api_keys"),
    path("keys/<int:pk>/", KeyDetail.as_view(), name="api_key"),
    path("keys/<int:pk>/regenerate/", KeyRegenerate.as_view(), name="api_key_regenerate"),
    path("keys/<int:pk>/revoke/", KeyRevoke.as_view(), name="api_key_revoke"),
    path("models/", ModelList.as_view(), name="api_models"),
    path("models/<int:pk>/", ModelDetail.as_view(), name="api_model"),
    path("models/<int:pk>/prices/", ModelPrices.as_view(), name="api_model_prices"),
    path("providers/", ProviderList.as_view(), name="api_providers"),
    path("usage/", UsageList.as_view(), name="api_usage"),
    path("usage/<uuid:pk>/", UsageDetail.as_view(), name="api_usage_record"),
    path("usage/summary/", UsageSummary.as_view(), name="api_usage_summary"),
    path("costs/", CostReport.as_view(), name="api_costs"),
    path("statements/", StatementList.as_view(), name="api_statements"),
    path("statements/<int:number>/", StatementDetail.as_view(), name="api_statement"),
    path("statements/<int:number>/pdf/", StatementPDF.as_view(), name="api_statement_pdf"),
    path("closing/<str:month>/", Closing.as_view(), name="api_closing"),
    path("health/", Health.as_view(), name="api_health"),
    path("schema/", SpectacularAPIView.as_view(**OPEN), name="api_schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="api_schema", **OPEN), name="api_docs"),
]
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/", include(api)),
    path("keys/<str:token>/", handover_view, name="handover"),
    path("usage/<str:token>/", client_view, name="client_usage"),
    path("usage/<str:token>/statements/<int:number>/", statement_view, name="client_statement"),
    path("logo/<str:digest>.png", logo_view, name="logo"),
    path("accounts/invitation/<str:token>/", invitation_view, name="invitation"),
    path("accounts/login/", sign_in, name="account_login"),  # these before allauth's, which they wrap
    path("accounts/2fa/authenticate/", remembered(mfa.authenticate), name="mfa_authenticate"),
    path("accounts/password/reset/", reset, name="account_reset_password"),
    path("accounts/reauthenticate/", confirm, name="account_reauthenticate"),
    path("accounts/2fa/reauthenticate/", confirm_by_code, name="mfa_reauthenticate"),
    path("accounts/", include("allauth.urls")),
]
