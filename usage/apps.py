from django.apps import AppConfig


class UsageConfig(AppConfig):
    name = "usage"

    def ready(self) -> None:
        """Log what happens to links of clients; records and sums of them write themselves."""
        from pricing import audit  # noqa: PLC0415
        from pricing.rate_text import rates_in_words  # noqa: PLC0415
        from usage.models import (  # noqa: PLC0415 - models come after apps
            AlertRules,
            ClientLink,
            ExportSchedule,
            Receiver,
            RerateStep,
            Rerating,
            Statement,
            Terms,
        )

        audit.track(ClientLink, part_of="client", left_out=("client", "digest", "opened_at"))
        audit.track(ExportSchedule, left_out=("since",))
        audit.track(Terms, part_of="client")
        audit.track(AlertRules)
        audit.track(Receiver, hidden=("secret", "url"))
        audit.track(Rerating, left_out=("reached", "reached_id"))
        audit.track(RerateStep, part_of="rerating", words=rates_in_words())
        audit.track(Statement, part_of="client", left_out=("client",))
