"""A call through the gateway with a key that was just made: what a client's automation will do, shown with its cost."""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from clients import access
from keys.lifecycle import find
from keys.models import APIKey
from usage.models import UsageRecord
from usage.standings import gateway_url

_ANSWER_SECONDS = 30.0
_RECORD_SECONDS = 5.0
"""How long to wait for the call's record, which `ingest` writes within a second."""
_LONGEST = 4_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a test call."""

    ok: bool
    text: str
    """The model's answer, or what is wrong in the gateway's words."""
    status: int = 0
    milliseconds: int = 0
    record: UsageRecord | None = None


def make(key: str, model: str) -> Outcome:
    """Call `model` with the text of a key, as its client would, and wait for the record of it. Never raises."""
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello in five words."}], "max_tokens": 40}
    began = time.monotonic()
    try:
        answer = httpx.post(
            f"{gateway_url()}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            timeout=_ANSWER_SECONDS,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return Outcome(False, f"The gateway does not answer ({type(error).__name__}). Is it running?")
    milliseconds = round((time.monotonic() - began) * 1000)
    try:
        document: Any = answer.json()
        text = (
            document["choices"][0]["message"]["content"] if answer.status_code == 200 else document["error"]["message"]
        )
    except (ValueError, LookupError, TypeError):
        text = "The answer cannot be read."
    record = _record(answer.headers.get("x-request-id", ""))
    return Outcome(answer.status_code == 200, str(text)[:_LONGEST], answer.status_code, milliseconds, record)


@never_cache
@sensitive_post_parameters("key")
@require_POST
def test_call_view(request: HttpRequest) -> HttpResponse:
    """Make a test call as the client whose key is sent; only who may change that client may."""
    if not access.may(request.user, "change", APIKey):
        raise PermissionDenied
    plain = request.POST.get("key", "")[:200]
    try:
        key = find(plain)
    except ValidationError:
        raise Http404 from None
    if not access.may(request.user, "change", key):
        raise Http404
    outcome = make(plain, request.POST.get("model", "")[:200])
    return TemplateResponse(request, "admin/usage/test_call.html", {"outcome": outcome, "key": key})


def _record(request_id: str) -> UsageRecord | None:
    try:
        wanted = UUID(request_id)
    except ValueError:
        return None
    until = time.monotonic() + _RECORD_SECONDS
    while time.monotonic() < until:
        record = UsageRecord.objects.filter(request_id=wanted).first()
        if record is not None:
            return record
        time.sleep(0.1)
    return None
