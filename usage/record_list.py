"""The list of calls, of which the newest are looked through: so no filter reads millions of them."""

from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.views import ChangeList

from usage.models import UsageRecord

LOOKED_AT: Final = 100_000
"""Calls, of those that an index finds: of a client, of a key, of a time, or of all."""
_INDEXED: Final = ("client__id__exact", "key", "admitted_at__gte", "admitted_at__lt")


class RecordList(ChangeList):  # type: ignore[misc]  # unfold ships no types
    """The newest calls, narrowed."""

    looked_at = LOOKED_AT
    oldest: datetime | None = None
    """Calls up to that moment were not looked at; None: all were."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[UsageRecord]:
        """Leave those that every filter leaves; one that is searched for by its id is found however old it is."""
        found: QuerySet[UsageRecord] = super().get_queryset(request, exclude_parameters)
        if self.query:
            return found
        wanted = {name: values[-1] for name, values in self.filter_params.items() if name in _INDEXED and values[-1]}
        times = self.root_queryset.filter(**wanted).order_by("-admitted_at").values_list("admitted_at", flat=True)
        self.oldest = times[self.looked_at : self.looked_at + 1].first()
        return found if self.oldest is None else found.filter(admitted_at__gt=self.oldest)
