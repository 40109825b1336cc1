from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"

    def ready(self) -> None:
        """Log what happens to keys."""
        from keys.models import AllowedModel, APIKey, Handover  # noqa: PLC0415 - models come after apps
        from pricing import audit  # noqa: PLC0415

        audit.track(APIKey, part_of="client", left_out=("client", "digest"))
        audit.track(AllowedModel, part_of="key")
        audit.track(Handover, part_of="key", hidden=("ciphertext",), left_out=("digest", "told_at"))
