"""What is usual for a client: the calls of a busy minute, by workflow and of one WhatsApp user. Brakes go by it."""

from typing import Final

from django.db import models

from clients.models import Client

LEAST: Final = 30
"""Calls a minute that nothing is braked below: a batch of a few items is no loop."""


class UsualPace(models.Model):
    """Calls of a busy minute."""

    client = models.OneToOneField(Client, models.CASCADE, primary_key=True, related_name="usual_pace")
    workflows = models.JSONField(default=dict, help_text="By workflow.")
    user = models.PositiveIntegerField(null=True, help_text="Of one WhatsApp user.")
    learned_at = models.DateTimeField()

    class Meta:
        app_label = "usage"

    def __str__(self) -> str:
        return f"{len(self.workflows)} workflows"

    def rates(self, client: Client) -> dict[str, int]:
        """Return from how many calls a minute on each workflow is braked."""
        return {workflow: _rate(client, pace) for workflow, pace in self.workflows.items()}

    def user_rate(self, client: Client) -> int | None:
        """Return the same for a WhatsApp user, None where that is not known."""
        return None if self.user is None else _rate(client, self.user)


def _rate(client: Client, pace: int) -> int:
    return max(LEAST, pace * (client.brake_times or 1))
