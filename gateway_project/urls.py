"""The control plane's addresses. The data plane's are no business of Django's."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from clients.api import ClientDetail, ClientList
from keys.api import Onboard
from keys.handover_page import handover_view

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/clients/", ClientList.as_view(), name="api_clients"),
    path("api/clients/<int:pk>/", ClientDetail.as_view(), name="api_client"),
    path("api/onboard/", Onboard.as_view(), name="api_onboard"),
    path("keys/<str:token>/", handover_view, name="handover"),
    path("accounts/", include("allauth.urls")),
]
