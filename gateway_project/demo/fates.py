"""How single calls go: tokens, times and outcome, drawn at random and priced as the gateway would."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway_project.demo.shapes import Speech
from gateway_project.demo.world import KeyOfClient, PricedModel
from pricing.quotes import RateCard, Usage, charge, quote
from usage import outcomes

FIXED: Final = (
    "client", "key", "provider", "model", "price", "endpoint", "model_asked", "model_served", "outcome", "status",
    "error_code", "stream", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
    "audio_input_tokens", "audio_output_tokens", "cost", "charge", "estimated", "workflow", "env", "service_tier",
)  # fmt: skip
"""What a template says of a record; the rest is of each call its own."""

_NOTHING: Final = Usage(0)
_CACHED_FROM: Final = 1024  # tokens; providers cache prompts from here on, in steps of 128
_STEP: Final = 128

# (status, code, shortest and longest seconds) of a provider's failures and of refusals
_FAILED: Final = (
    (502, "upstream_error", 0.3, 4.0),
    (502, "upstream_error", 0.3, 9.0),
    (504, "upstream_timeout", 30.0, 30.2),
    (502, "upstream_disconnected", 0.5, 12.0),
    (502, "upstream_unavailable", 0.002, 5.0),
)
_BROKEN: Final = ("upstream_disconnected", "upstream_disconnected", "upstream_idle_timeout", "provider_error_event")
_REJECTED: Final = (400, 400, 400, 404, 422)
_MISSPELT: Final = ("gpt4o-mini", "gpt-4o-mini-latest", "gpt-3.5-turbo", "claude-sonnet-4-5")
_REFUSED: Final = {
    # fate: (status, code, whether the call was read)
    "unknown_model": (404, "model_not_found", True),
    "spent": (429, "insufficient_quota", True),
    "bad_json": (400, "invalid_json", False),
    "suspended": (403, "client_suspended", False),
    "revoked": (401, "key_revoked", False),
}


@dataclass(frozen=True, slots=True)
class Workflow:
    """An automation: what it asks of which model, and how often compared with others."""

    name: str
    weight: float
    model: PricedModel
    endpoint: Speech
    stream: bool
    input_tokens: int  # median
    output_tokens: int  # median
    cached: float  # share of a long prompt that is the same each time
    steps: int  # calls of one execution, at most


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A call but for its moment. `tail` are its FIXED values as the store wants them; times are even µs."""

    key_id: int
    tail: object
    latency_us: int
    first_byte_us: int | None
    tokens: int
    charge: int
    counted: bool
    read: bool  # so its tags are known
    reached: bool  # the provider, which gave it an id
    last: bool  # of its execution, because it failed


@dataclass(slots=True)
class _Course:
    """How a call goes, as far as its record tells."""

    outcome: str
    status: int
    latency: float  # seconds
    usage: Usage = _NOTHING
    code: str = ""
    first_byte: float | None = None
    served: bool = False
    estimated: bool = False
    read: bool = True
    reached: bool = True
    asked: str | None = None  # a model that there is not


def template(
    rng: Random,
    workflow: Workflow,
    client_id: int,
    markup_bp: int,
    key: KeyOfClient,
    fate: str,
    card: RateCard | None,
    encode: Callable[[tuple[object, ...]], object],
) -> Template:
    """Draw one call of `workflow` that ends as `fate` says. `card` holds the rates in force; None: a free model."""
    course = _course(rng, workflow, fate)
    model, usage = workflow.model, course.usage
    tier = model.shape.tier if course.served else ""
    price_id, cost, charged = None, 0, 0
    if card is not None and course.outcome != outcomes.REFUSED:
        cost, price_id = quote(card, usage, tier or None)
        charged = charge(cost, markup_bp) if course.outcome in outcomes.COUNTED else 0
    routed = course.read and course.asked is None
    values = (
        client_id,
        key.id,
        model.provider_id if routed else None,
        model.id if routed else None,
        price_id,
        workflow.endpoint,
        (course.asked or model.shape.name) if course.read else "",
        model.shape.served if course.served else "",
        course.outcome,
        course.status,
        course.code,
        course.read and workflow.stream,
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.audio_input_tokens,
        usage.audio_output_tokens,
        cost,
        charged,
        course.estimated,
        workflow.name if course.read else "",
        key.shape.env if course.read else "",
        tier,
    )
    return Template(
        key_id=key.id,
        tail=encode(values),
        latency_us=_even(course.latency),
        first_byte_us=None if course.first_byte is None else _even(course.first_byte),
        tokens=usage.input_tokens + usage.output_tokens,
        charge=charged,
        counted=course.outcome in outcomes.COUNTED,
        read=course.read,
        reached=course.reached and model.shape.provider == "OpenAI",
        last=fate != "ok",
    )


def _course(rng: Random, workflow: Workflow, fate: str) -> _Course:
    if fate in _REFUSED:
        status, code, read = _REFUSED[fate]
        asked = rng.choice(_MISSPELT) if fate == "unknown_model" else None
        seconds = rng.uniform(0.00015, 0.0012)
        return _Course(outcomes.REFUSED, status, seconds, code=code, read=read, reached=False, asked=asked)
    if fate == "failed":
        status, code, shortest, longest = rng.choice(_FAILED)
        return _Course(outcomes.UPSTREAM_ERROR, status, rng.uniform(shortest, longest), code=code, reached=False)
    if fate == "throttled":
        seconds = rng.uniform(0.08, 0.4)
        return _Course(outcomes.UPSTREAM_ERROR, 429, seconds, code="rate_limit_exceeded", reached=False)
    if fate == "rejected":
        seconds = rng.uniform(0.1, 0.6)
        return _Course(
            outcomes.REJECTED, rng.choice(_REJECTED), seconds, code="provider_rejected", first_byte=seconds * 0.99
        )
    usage, first, whole = _answer(rng, workflow)
    if fate == "ok":
        return _Course(outcomes.OK, 200, whole, usage, first_byte=first, served=True)
    part = rng.uniform(0.05, 0.9)
    said = Usage(usage.input_tokens, output_tokens=int(usage.output_tokens * part))
    if fate == "interrupted":  # its estimate, as the gateway that died had begun it
        return _Course(outcomes.INTERRUPTED, 0, whole * part, usage._replace(cached_tokens=0, reasoning_tokens=0),
                       estimated=True, reached=False)  # fmt: skip
    until = first + (whole - first) * part
    if fate == "client_gone" and workflow.stream:
        return _Course(outcomes.CLIENT_GONE, 200, until, said, first_byte=first, estimated=True)
    if fate == "client_gone":  # before the answer was there
        return _Course(outcomes.CLIENT_GONE, 0, whole * part, Usage(usage.input_tokens), estimated=True, reached=False)
    if workflow.stream:
        code = rng.choice(_BROKEN)
        return _Course(outcomes.BROKEN, 200, until, said, code, first_byte=first, estimated=True, served=True)
    return _course(rng, workflow, "failed")  # what is no stream does not break half way


def _answer(rng: Random, workflow: Workflow) -> tuple[Usage, float, float]:
    """Tokens, seconds to the first byte, seconds in all, of a call that goes well."""
    model = workflow.model.shape
    entered = max(8, int(workflow.input_tokens * rng.lognormvariate(0, 0.45)))
    cached = 0
    if workflow.cached and entered >= _CACHED_FROM and rng.random() < 0.7:
        cached = int(entered * workflow.cached) // _STEP * _STEP
    if workflow.endpoint == "embeddings":
        seconds = model.first_ms / 1000 * rng.lognormvariate(0, 0.35) + entered / 60_000
        return Usage(entered), seconds * 0.99, seconds
    said = max(1, int(workflow.output_tokens * rng.lognormvariate(0, 0.6)))
    thought = 0
    if model.reasoning:
        thought = int(said * model.reasoning / (1 - model.reasoning) * rng.lognormvariate(0, 0.4)) // 64 * 64
    first = model.first_ms / 1000 * rng.lognormvariate(0, 0.4) + entered / 80_000
    if rng.random() < 0.01:  # the tail that every provider has
        first *= rng.uniform(4, 12)
    whole = first + (said + thought) / (model.speed * rng.uniform(0.6, 1.3))
    if not workflow.stream:
        first = whole * 0.998
    return Usage(entered, cached, output_tokens=said + thought, reasoning_tokens=thought), first, whole


def _even(seconds: float) -> int:
    """Seconds as an even number of µs, at least 2: see `calls.Call`."""
    return max(2, int(seconds * 500_000) * 2)
