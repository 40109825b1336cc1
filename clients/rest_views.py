"""What all pages of the REST API share. Apart from `clients.rest`, which DRF's own views read before they are whole."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions, serializers
from rest_framework.generics import GenericAPIView
from rest_framework.pagination import BasePagination, PageNumberPagination
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer

from clients import access
from clients.idempotency import LONGEST, OtherRequest, once

M = TypeVar("M", bound=Model)
T = TypeVar("T")

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Whatever you choose, new for each new thing: sent twice within a week, it is made once.",
)


class Pages(PageNumberPagination):
    """50 rows a page, or up to 200 with `page_size`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class SentBefore(exceptions.APIException):
    """422: the Idempotency-Key came before, with another request."""

    status_code = 422
    default_detail = "This Idempotency-Key was sent before, with another request. Use a new key for each new request."


class Strict(serializers.Serializer[Any]):
    """Refuses fields that it does not name: a misspelt one is told, and nothing else can be set by one."""

    def to_internal_value(self, data: Any) -> Any:
        """Read what was sent. Raises ValidationError."""
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            raise serializers.ValidationError({str(name)[:50]: ["There is no such field."] for name in unknown[:20]})
        return super().to_internal_value(data)


class View(GenericAPIView[Any]):
    """What all pages of the API share: JSON alone, deny first."""

    renderer_classes = (JSONRenderer,)
    parser_classes = (JSONParser,)
    pagination_class: type[BasePagination] | None = Pages
    scopes: dict[str, str] = {}

    def theirs(self, rows: QuerySet[M], pk: int, act: access.Act = "view") -> M:
        """Return a row that the token's person may do that to.

        Raises NotFound where he does not see it, PermissionDenied where his role only lets him look.
        """
        user: Any = self.request.user
        row = access.visible(user, rows.filter(pk=pk)).first()
        if row is None:
            raise exceptions.NotFound
        if act != "view" and not access.may(user, act, row):
            raise exceptions.PermissionDenied(f"Your role does not {act} this.")
        return row

    def sent(self, form: type[Strict]) -> dict[str, Any]:
        """Return what was sent, as `form` reads it. Raises ValidationError."""
        asked = form(data=self.request.data)
        asked.is_valid(raise_exception=True)
        return dict(asked.validated_data)

    def once(self, make: Callable[[], tuple[int, T]], *, required: bool = False) -> tuple[int, T | None]:
        """Do `make` once for each Idempotency-Key, as `clients.idempotency.once`; without the header, each time.

        Raises SentBefore, and ValidationError for a key that is too long, or missing where it is `required`.
        """
        user: Any = self.request.user
        sent = self.request.headers.get("idempotency-key", "")
        if len(sent) > LONGEST or (required and not sent):
            raise ValidationError({"Idempotency-Key": "Send this header: up to 200 characters, new for each request."})
        if not sent:
            return make()
        try:
            return once(user, sent, (self.request.path, self.request.data), make)
        except OtherRequest:
            raise SentBefore from None


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself
    """Says in the schema how to sign in."""

    target_class = "clients.rest.BearerToken"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return it as OpenAPI does."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "llm_api_…"}


class NoBody(Strict):
    """Nothing, or an empty object."""
