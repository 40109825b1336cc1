from django.apps import AppConfig


class PricingConfig(AppConfig):
    name = "pricing"

    def ready(self) -> None:
        """Log what happens to providers, models and prices."""
        from pricing import audit  # noqa: PLC0415 - models come after apps
        from pricing.models import Model, Price, Provider  # noqa: PLC0415
        from pricing.rate_text import rates_in_words  # noqa: PLC0415

        # The hint would tell four characters of a key to whoever reads the log
        audit.track(Provider, hidden=("credential_encrypted",), left_out=("credential_hint",))
        audit.track(Model)
        audit.track(Price, part_of="model", words=rates_in_words())
