"""Every error a caller of /v1 can see: status, OpenAI's type and code, and how it is rendered.

Codes follow https://platform.openai.com/docs/guides/error-codes. Texts speak to the one who can act on them and never
carry a provider's or a database's own words.
"""

from typing import ClassVar

import orjson

Headers = tuple[tuple[bytes, bytes], ...]

# The official SDKs retry a 429 by themselves unless the answer says that it is pointless
# (openai-python `_base_client.py`, `_should_retry`).
DO_NOT_RETRY: Headers = ((b"x-should-retry", b"false"),)


class GatewayError(Exception):
    """A refusal or failure with its status and OpenAI's `type` and `code`; raised anywhere, rendered at the edge."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, headers: Headers = ()) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers

    def payload(self) -> dict[str, dict[str, str | None]]:
        """The error as OpenAI's JSON object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """The error as JSON bytes."""
        return orjson.dumps(self.payload())


class InternalError(GatewayError):
    """A fault of ours; the log has the rest."""

    def __init__(self) -> None:
        super().__init__("Something went wrong in the gateway; the operator's log has the details.")


class InvalidRequest(GatewayError):
    """400: the body cannot be read as the endpoint asks; `param` names the field."""

    status, type, code = 400, "invalid_request_error", "invalid_request"


class InvalidJSON(InvalidRequest):
    """400: the body is no JSON object, or reads differently to different readers."""

    code = "invalid_json"


class NotFound(GatewayError):
    """404: no such endpoint."""

    status, type, code = 404, "invalid_request_error", "not_found"


class MethodNotAllowed(GatewayError):
    """405: the endpoint exists for another method."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class RequestTimeout(GatewayError):
    """408: the request did not arrive in time."""

    status, type, code = 408, "invalid_request_error", "request_timeout"


class BodyTooLarge(GatewayError):
    """413: the body exceeds the size limit."""

    status, type, code = 413, "invalid_request_error", "request_too_large"


class HeadersTooLarge(GatewayError):
    """431: the header section exceeds the size limit."""

    status, type, code = 431, "invalid_request_error", "headers_too_large"


class InvalidKey(GatewayError):
    """401: no key, or not one of ours. Says nothing that a stranger could use."""

    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class KeyRevoked(GatewayError):
    """401, told only to the holder of the real key: it was revoked."""

    status, type, code = 401, "invalid_request_error", "key_revoked"


class KeyExpired(GatewayError):
    """403, told only to the holder of the real key: it has expired or was replaced."""

    status, type, code = 403, "invalid_request_error", "key_expired"


class ClientSuspended(GatewayError):
    """403: the key is fine, its client is suspended."""

    status, type, code = 403, "invalid_request_error", "client_suspended"


class ClientInactive(GatewayError):
    """403: the key is fine, its client is archived."""

    status, type, code = 403, "invalid_request_error", "client_inactive"


class TooManyWrongKeys(GatewayError):
    """429 for further wrong keys from one address."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class AuthUnavailable(GatewayError):
    """503: the key is unknown here, and the database that might know it is away."""

    status, type, code = 503, "server_error", "auth_unavailable"


class ModelNotFound(GatewayError):
    """404: unknown or disabled model."""

    status, type, code = 404, "invalid_request_error", "model_not_found"


class ModelNotPriced(GatewayError):
    """503: the operator has not set a price; nothing is ever billed as zero in silence."""

    status, type, code = 503, "server_error", "model_not_priced"


class RateLimited(GatewayError):
    """429 that passes by itself: `Retry-After` says when."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class RunawayBrake(GatewayError):
    """429: one workflow or session calls like a loop; the client's others are served."""

    status, type, code = 429, "rate_limit_error", "runaway_brake"


class QuotaExceeded(GatewayError):
    """429 that does not pass before the cycle ends or the operator raises the limit."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"


class JournalUnavailable(GatewayError):
    """503: the call could not be put on record, so it was not forwarded."""

    status, type, code = 503, "server_error", "usage_unavailable"


class LimitsUnavailable(GatewayError):
    """503: the client's counters are not known yet, so its budget cannot be kept."""

    status, type, code = 503, "server_error", "limiter_unavailable"


class ShuttingDown(GatewayError):
    """503: this process is stopping."""

    status, type, code = 503, "server_error", "server_shutting_down"


class UpstreamUnavailable(GatewayError):
    """502: the provider cannot be reached."""

    status, type, code = 502, "server_error", "upstream_unavailable"


class UpstreamFailed(GatewayError):
    """502: the provider answered with a fault of its own (5xx)."""

    status, type, code = 502, "server_error", "upstream_error"


class UpstreamInvalid(GatewayError):
    """502: the provider's answer cannot be used (HTML, a redirect, broken compression, no JSON)."""

    status, type, code = 502, "server_error", "upstream_invalid_response"


class UpstreamDisconnected(GatewayError):
    """502: the provider's connection broke before the answer was whole."""

    status, type, code = 502, "server_error", "upstream_disconnected"


class UpstreamRefusedCredential(GatewayError):
    """502: the provider refused our credential; the client's key is fine, the operator must act."""

    status, type, code = 502, "server_error", "provider_auth_error"


class UpstreamTimeout(GatewayError):
    """504: the provider did not answer in time."""

    status, type, code = 504, "server_error", "upstream_timeout"


class UpstreamIdle(GatewayError):
    """504: the provider's stream fell silent."""

    status, type, code = 504, "server_error", "upstream_idle_timeout"


class UpstreamRateLimited(GatewayError):
    """429: the provider is limiting the agency's account; the client's own budget is untouched."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"
