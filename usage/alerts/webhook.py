"""Webhooks as https://www.standardwebhooks.com says: signed by HMAC-SHA256, told at least once, told apart by an id."""

import base64
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any, Final

from pricing.addresses import Resolver, resolve
from pricing.asking import Asked, Problem, Trouble, ask
from pricing.connection_test import describe
from pricing.credentials import UnreadableCredential
from usage.alerts.models import SECRET_PREFIX, Receiver

SECONDS: Final = 10.0
"""From the name's look-up to the end of the answer."""


class NotDelivered(Exception):
    """It did not arrive; says why."""


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature` of a message, `timestamp` in seconds; `secret` as `whsec_…`."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def post(receiver: Receiver, id: str, document: dict[str, Any], now: datetime, resolver: Resolver = resolve) -> str:
    """Send a message to a receiver's URL; return what came of it, in words. Raises NotDelivered.

    Only public addresses are dialled, judged anew each time, and redirects are not followed.
    """
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = int(now.timestamp())
    try:
        secret = receiver.signing_secret()
    except UnreadableCredential as error:
        raise NotDelivered(describe(Trouble(Problem.CREDENTIAL), receiver.url)[0]) from error
    headers = {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, id, timestamp, body),
    }
    try:
        answer = ask(Asked(receiver.url, "POST", headers, body), seconds=SECONDS, resolver=resolver)
    except Trouble as trouble:
        if trouble.problem is Problem.TOO_LONG:  # it was taken: what else it says is not read
            return "Status 200"
        said, _ = describe(trouble, receiver.url, SECONDS)
        raise NotDelivered(said.replace("base URL", "URL")) from trouble
    if 300 <= answer.status < 400:
        raise NotDelivered(f"Status {answer.status}: redirects are not followed. Enter the final address.")
    if not 200 <= answer.status < 300:
        raise NotDelivered(f"Status {answer.status}.")
    return f"Status {answer.status}"
