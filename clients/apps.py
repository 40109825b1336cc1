from django.apps import AppConfig


class ClientsConfig(AppConfig):
    name = "clients"

    def ready(self) -> None:
        """Log what happens to clients, plans, limits, and the people who work here."""
        from django.contrib.auth.models import User  # noqa: PLC0415 - models come after apps

        from clients import sign_ins  # noqa: F401, PLC0415 - connects its receivers
        from clients.limits import format_amount  # noqa: PLC0415
        from clients.markup import format_markup  # noqa: PLC0415
        from clients.models import (  # noqa: PLC0415
            AccessToken,
            Agency,
            Client,
            Limit,
            Membership,
            OwnPrice,
            Plan,
            PlanLimit,
        )
        from pricing import audit  # noqa: PLC0415
        from pricing.rate_text import rates_in_words  # noqa: PLC0415

        markup: dict[str, audit.Words] = {"markup_bp": lambda _, value: f"{format_markup(value)} %"}
        amount: dict[str, audit.Words] = {"amount": lambda limit, value: format_amount(limit.metric, value)}
        own = ("version", "changed_at", "onboarding_token", "plan_terms")  # what the code keeps for itself
        audit.track(Client, left_out=own, words=markup)
        audit.track(Limit, part_of="client", left_out=("client",), words=amount)
        audit.track(OwnPrice, part_of="client", left_out=("client",), words=rates_in_words())
        audit.track(Plan, words=markup)
        audit.track(PlanLimit, part_of="plan", words=amount)
        audit.track(Agency)
        audit.track(User, hidden=("password",), left_out=("last_login",))
        audit.track(Membership, part_of="user")
        audit.track(AccessToken, part_of="user", left_out=("user", "digest", "last_used_at"))
