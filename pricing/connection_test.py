"""Whether a provider can be reached with its key, and if not, what is wrong and what to do, in words."""

import time
from dataclasses import dataclass

from pricing.addresses import Resolver, resolve
from pricing.asking import Problem, Trouble
from pricing.model_list import SECONDS, read_model_list
from pricing.models import Provider


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test found. `advice` is empty where nothing needs doing; `code` is one of Problem, or 'ok'."""

    ok: bool
    code: str
    message: str
    advice: str
    models: int
    took_ms: int


# Per problem: what is wrong, what to do. {host}, {base}, {detail} are filled in.
_WORDS: dict[Problem, tuple[str, str]] = {
    Problem.CREDENTIAL: (
        "The stored key cannot be decrypted with ENCRYPTION_KEYS.",
        "Enter the provider's key again, or put back the encryption key it was stored under.",
    ),
    Problem.ADDRESS: ("{detail}", "Correct the base URL."),
    Problem.NAME: (
        "The name {host} does not resolve.",
        "Look for a typing error in the base URL, or ask whoever runs your DNS.",
    ),
    Problem.REFUSED: (
        "{host} refuses the connection.",
        "Is the port in the base URL right, and is the provider's server running?",
    ),
    Problem.UNREACHABLE: (
        "{host} cannot be reached.",
        "A firewall or a missing route may stand between the gateway and the provider.",
    ),
    Problem.CERTIFICATE_EXPIRED: (
        "The TLS certificate of {host} has expired.",
        "Whoever runs that server has to renew it. Calls fail until then.",
    ),
    Problem.CERTIFICATE_NOT_YET_VALID: (
        "The TLS certificate of {host} is not valid yet.",
        "Is the clock of the gateway's machine right?",
    ),
    Problem.CERTIFICATE_OF_ANOTHER: (
        "The TLS certificate is not for {host}.",
        "Use the name that the certificate is for as the base URL's host.",
    ),
    Problem.CERTIFICATE_ISSUER: (
        "The TLS certificate of {host} comes from an issuer that is not trusted here.",
        "For a server of your own, name its certificate authority in SSL_CERT_FILE where the gateway runs. "
        "For a public provider, somebody may be reading along: do not send a key there.",
    ),
    Problem.CERTIFICATE: (
        "The TLS certificate of {host} is not acceptable.",
        "Whoever runs that server has to mend it. Calls fail until then.",
    ),
    Problem.NO_TLS: (
        "{host} does not speak TLS on that port.",
        "Is the port in the base URL right? A server of your own without TLS needs http:// in the base URL.",
    ),
    Problem.SLOW_NAME: ("Looking up {host} took too long.", "Try again; if it stays so, ask whoever runs your DNS."),
    Problem.SLOW_CONNECTION: (
        "{host} does not take the connection: no answer in time.",
        "A firewall may be dropping it, or the port in the base URL is wrong.",
    ),
    Problem.SLOW_ANSWER: (
        "{host} took the connection and then did not answer in full within {detail} seconds.",
        "Try again; if it stays so, look at the provider's status page.",
    ),
    Problem.BROKEN_OFF: (
        "{host} broke off the connection, or answered with something that is not HTTP.",
        "Is the port in the base URL right? If so, try again.",
    ),
    Problem.REDIRECT: (
        "{host} sends us elsewhere{to}.",
        "Redirects are not followed, so that the key goes nowhere else. Enter the final address as the base URL.",
    ),
    Problem.KEY_REFUSED: (
        "The provider refuses the key{code}.",
        "Make a new key in the provider's console and enter it here. Is it a key of this provider, copied whole?",
    ),
    Problem.NO_KEY: ("The provider asks for a key{code}, and none is stored.", "Enter the provider's key."),
    Problem.FORBIDDEN: (
        "The provider knows the key but does not allow this{code}.",
        "In the provider's console, see whether the key is restricted, the project closed or the region excluded.",
    ),
    Problem.NOT_FOUND: (
        "There is no list of models at {base}/models (status {detail}).",
        "{version}If calls work all the same, the provider has no such list: then add its models by hand.",
    ),
    Problem.LIMITED: (
        "The provider was reached, but is limiting this account right now{code}.",
        "Wait a minute and test again. If it stays so, look at the account's balance in the provider's console.",
    ),
    Problem.PROVIDER_FAULT: (
        "The provider answered with a fault of its own (status {detail}).",
        "Try again later, and look at the provider's status page.",
    ),
    Problem.STATUS: (
        "The provider did not accept the question for its models: status {detail}.",
        "{version}Compare the base URL with the provider's documentation.",
    ),
    Problem.WEB_PAGE: (
        "{base}/models answers with a web page, not with JSON.",
        "That is the address of a web site. {version}Compare the base URL with the provider's documentation.",
    ),
    Problem.NOT_JSON: (
        "{base}/models answers with something that is not JSON.",
        "{version}Compare the base URL with the provider's documentation.",
    ),
    Problem.NO_LIST: (
        "{base}/models answers, but not with a list of models in OpenAI's shape.",
        "{version}Is the provider OpenAI-compatible?",
    ),
    Problem.TOO_LONG: (
        "The provider's list of models is longer than the gateway reads.",
        "Calls may work all the same; add the models you need by hand.",
    ),
    Problem.BUSY: ("Other providers are being tested right now.", "Try again in a few seconds."),
}


def check(provider: Provider, *, seconds: float = SECONDS, resolver: Resolver = resolve) -> Outcome:
    """Ask a provider, saved or not, for its models, within `seconds` in all, and say what came of it.

    Nothing secret and no text of the provider's is in the outcome, but for an error code in OpenAI's shape.
    """
    if provider.kind == Provider.Kind.SANDBOX:
        return Outcome(
            True, "ok", "The gateway itself answers for the sandbox; there is nothing to connect to.", "", 0, 0
        )
    start = time.monotonic()
    try:
        found = read_model_list(provider, seconds=seconds, resolver=resolver)
    except Trouble as trouble:
        message, advice = describe(trouble, provider.base_url, seconds)
        return Outcome(False, trouble.problem.value, message, advice, 0, _since(start))
    count = len(found.ids)
    took = _since(start)
    if not count:
        return Outcome(
            True,
            "ok",
            f"Works: answered in {took:,} ms. The account has no models, though.",
            "In the provider's console, see which models this key may use.",
            0,
            took,
        )
    return Outcome(True, "ok", f"Works: {count:,} model{'s'[: count > 1]} listed, in {took:,} ms.", "", count, took)


def describe(trouble: Trouble, base_url: str, seconds: float = SECONDS) -> tuple[str, str]:
    """Return what is wrong and what to do, in words."""
    what, todo = _WORDS[trouble.problem]
    base = base_url.rstrip("/")
    detail = trouble.detail
    if trouble.problem is Problem.SLOW_ANSWER:
        detail = f"{seconds:g}"
    facts = {
        "host": _host(base),
        "base": base,
        "detail": detail,
        "code": f" ({detail})" if detail else "",
        "to": f", to {detail}" if detail else "",
        "version": "" if _ends_in_version(base) else f"Base URLs mostly end in /v1: try {base}/v1. ",
    }
    return what.format(**facts), todo.format(**facts).strip()


def _since(start: float) -> int:
    return round((time.monotonic() - start) * 1000)


def _host(base_url: str) -> str:
    return base_url.partition("://")[2].partition("/")[0]


def _ends_in_version(base_url: str) -> bool:
    last = base_url.rsplit("/", 1)[-1]
    return last.startswith("v") and last[1:2].isdigit()
