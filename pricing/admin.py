"""The admin pages of this app, each in a module of its own, for Django's discovery."""

from pricing.model_admin import ModelAdmin
from pricing.provider_admin import ProviderAdmin

__all__ = ["ModelAdmin", "ProviderAdmin"]
