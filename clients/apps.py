from django.apps import AppConfig


class ClientsConfig(AppConfig):
    name = "clients"

    def ready(self) -> None:
        """Log what happens to clients, their limits, and the people who work here."""
        from django.contrib.auth.models import User  # noqa: PLC0415 - models come after apps

        from clients import sign_ins  # noqa: F401, PLC0415 - connects its receivers
        from clients.limits import format_amount  # noqa: PLC0415
        from clients.models import Client, Limit, Membership  # noqa: PLC0415
        from clients.onboarding import format_markup  # noqa: PLC0415
        from pricing import audit  # noqa: PLC0415

        audit.track(Client, words={"markup_bp": lambda _, value: f"{format_markup(value)} %"})
        audit.track(Limit, part_of="client", words={"amount": lambda limit, value: format_amount(limit.metric, value)})
        audit.track(User, hidden=("password",), left_out=("last_login",))
        audit.track(Membership, part_of="user")
