from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"

    def ready(self) -> None:
        """Log what happens to keys, and to the links that hand them over; `lifecycle.allow_models` logs by itself."""
        from clients.limits import format_amount  # noqa: PLC0415
        from keys.models import APIKey, Handover, KeyLimit  # noqa: PLC0415 - models come after apps
        from pricing import audit  # noqa: PLC0415

        audit.track(APIKey, part_of="client", left_out=("client", "digest"))
        amount: dict[str, audit.Words] = {"amount": lambda limit, value: format_amount(limit.metric, value)}
        audit.track(KeyLimit, part_of="key", left_out=("key",), words=amount)
        hidden, own = ("ciphertext",), ("key", "digest", "told_at")
        audit.track(Handover, part_of="key", hidden=hidden, left_out=own)
