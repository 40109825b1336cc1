"""How a call ended, and whether it consumed anything. The words are stored in records: never rename one."""

OK = "ok"
CLIENT_GONE = "client_gone"  # the caller hung up; pays the prompt plus what was relayed
BROKEN = "broken"  # the provider's stream failed half way
REJECTED = "rejected"  # the provider's own 4xx, passed on: a request, no tokens
INTERRUPTED = "interrupted"  # the gateway died while the call was open; charged its estimate
REFUSED = "refused"  # refused by us, before the provider heard of it
UPSTREAM_ERROR = "upstream_error"  # the provider failed before a byte was relayed

COUNTED = frozenset({OK, CLIENT_GONE, BROKEN, REJECTED, INTERRUPTED})
UNCOUNTED = frozenset({REFUSED, UPSTREAM_ERROR})
ALL = COUNTED | UNCOUNTED

LABELS = {
    OK: "OK",
    CLIENT_GONE: "Client hung up",
    BROKEN: "Stream broke",
    REJECTED: "Rejected by the provider",
    INTERRUPTED: "Interrupted",
    REFUSED: "Refused",
    UPSTREAM_ERROR: "Provider error",
}
