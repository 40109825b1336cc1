"""The control plane's addresses. The data plane's are no business of Django's."""

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from clients.api import ClientDetail, ClientList
from clients.invitation_page import invitation_view
from gateway_project.guessing import by_session, by_typed, remembered, slowed
from keys.api import Onboard
from keys.handover_page import handover_view

sign_in = remembered(slowed(account.login, "sign-in", by_typed("login"), per_address="20/m", per_account="10/5m"))
reset = slowed(account.password_reset, "reset", by_typed("email"), per_address="10/5m", per_account="3/5m")
confirm = slowed(account.reauthenticate, "confirm", by_session, per_address="20/m", per_account="10/5m")
confirm_by_code = slowed(mfa.reauthenticate, "confirm", by_session, per_address="20/m", per_account="10/5m")

handler429 = "gateway_project.guessing.too_many"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/clients/", ClientList.as_view(), name="api_clients"),
    path("api/clients/<int:pk>/", ClientDetail.as_view(), name="api_client"),
    path("api/onboard/", Onboard.as_view(), name="api_onboard"),
    path("keys/<str:token>/", handover_view, name="handover"),
    path("accounts/invitation/<str:token>/", invitation_view, name="invitation"),
    path("accounts/login/", sign_in, name="account_login"),  # these before allauth's, which they wrap
    path("accounts/2fa/authenticate/", remembered(mfa.authenticate), name="mfa_authenticate"),
    path("accounts/password/reset/", reset, name="account_reset_password"),
    path("accounts/reauthenticate/", confirm, name="account_reauthenticate"),
    path("accounts/2fa/reauthenticate/", confirm_by_code, name="mfa_reauthenticate"),
    path("accounts/", include("allauth.urls")),
]
