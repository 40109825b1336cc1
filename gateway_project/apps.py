from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class GatewayProjectConfig(AppConfig):
    name = "gateway_project"
    default = True


class BackOfficeConfig(SimpleAdminConfig):
    """The admin with our site. Its pages are imported with the URLs: a gateway without them starts twice as fast."""

    default = False
    default_site = "gateway_project.site.BackOfficeSite"

    def ready(self) -> None:
        """Register the admin's checks, with the pages that they are about."""
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(_check_pages, checks.Tags.admin)


def _check_pages(app_configs: Any, **options: Any) -> list[checks.CheckMessage]:
    admin.autodiscover()
    found: list[checks.CheckMessage] = check_admin_app(app_configs, **options)
    return found
