from django.apps import AppConfig
from django.contrib.admin import apps


class GatewayProjectConfig(AppConfig):
    name = "gateway_project"
    default = True


class BackOfficeConfig(apps.AdminConfig):
    default = False
    default_site = "gateway_project.site.BackOfficeSite"
