from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"

    def ready(self) -> None:
        """Log what happens to keys, and to the links that hand them over; `lifecycle.allow_models` logs by itself."""
        from keys.models import APIKey, Handover  # noqa: PLC0415 - models come after apps
        from pricing import audit  # noqa: PLC0415

        audit.track(APIKey, part_of="client", left_out=("client", "digest"))
        hidden, own = ("ciphertext",), ("key", "digest", "told_at")
        audit.track(Handover, part_of="key", hidden=hidden, left_out=own)
