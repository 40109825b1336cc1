"""The control plane's addresses. The data plane's are no business of Django's."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from clients.invitation_page import invitation_view
from keys.handover_page import handover_view

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("keys/<str:token>/", handover_view, name="handover"),
    path("accounts/invitation/<str:token>/", invitation_view, name="invitation"),
    path("accounts/", include("allauth.urls")),
]
