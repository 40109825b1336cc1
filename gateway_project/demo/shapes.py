"""What the demo is made of: providers, models, and a dozen clients, each with a story. Data, and nothing of ours."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

Speech = Literal["chat/completions", "responses", "embeddings"]
Fates = Mapping[str, float]  # how a call ends -> how often, relative to the others; names as in `calls`

ADMIN: Final = "admin"
MARIA: Final = "maria"

# --- providers and models ---


@dataclass(frozen=True, slots=True)
class ProviderShape:
    """A provider under a name that the price catalogue knows; its host is below `.invalid`, which nothing resolves."""

    name: str
    host: str
    credential: str
    first_byte_timeout: int  # seconds


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model: how long it takes to say its first word (median, ms) and how many tokens a second it says."""

    name: str
    provider: str
    served: str
    first_ms: int
    speed: int
    upstream: str = ""
    reasoning: float = 0.0  # share of the output
    tier: str = ""  # that the provider says it served
    enabled: bool = True


PROVIDERS: Final = (
    ProviderShape("OpenAI", "api.openai.demo.invalid", "sk-demo-not-a-real-key-5f2a", 60),
    ProviderShape("Azure", "contoso-eu.azure.demo.invalid", "demo-not-a-real-key-azure-9c1e", 60),
    ProviderShape("Mistral", "api.mistral.demo.invalid", "demo-not-a-real-key-mistral-77d0", 30),
)
BASE_URL_END: Final = ".demo.invalid/v1"

MODELS: Final = (
    ModelShape("gpt-4o", "OpenAI", "gpt-4o-2024-08-06", 520, 75, tier="default"),
    ModelShape("gpt-4o-mini", "OpenAI", "gpt-4o-mini-2024-07-18", 410, 95, tier="default"),
    ModelShape("gpt-4.1-mini", "OpenAI", "gpt-4.1-mini-2025-04-14", 430, 90, tier="default"),
    ModelShape("gpt-5", "OpenAI", "gpt-5-2025-08-07", 2_600, 70, reasoning=0.6, tier="default"),
    ModelShape("gpt-5-mini", "OpenAI", "gpt-5-mini-2025-08-07", 1_500, 110, reasoning=0.5, tier="default"),
    ModelShape("o4-mini", "OpenAI", "o4-mini-2025-04-16", 2_100, 120, reasoning=0.7, tier="default"),
    ModelShape("text-embedding-3-small", "OpenAI", "text-embedding-3-small", 140, 1),
    ModelShape("text-embedding-3-large", "OpenAI", "text-embedding-3-large", 190, 1),
    ModelShape("gpt-4-turbo", "OpenAI", "gpt-4-turbo-2024-04-09", 900, 30, enabled=False),
    ModelShape("eu-gpt-4o", "Azure", "gpt-4o-2024-08-06", 610, 65, upstream="gpt-4o"),
    ModelShape("eu-gpt-4.1-mini", "Azure", "gpt-4.1-mini-2025-04-14", 480, 80, upstream="gpt-4.1-mini"),
    ModelShape("mistral-small-latest", "Mistral", "mistral-small-2506", 330, 120),
    ModelShape("mistral-large-latest", "Mistral", "mistral-large-2411", 650, 50),
    ModelShape("mistral-embed", "Mistral", "mistral-embed", 120, 1),
)
SANDBOX_MODEL: Final = ModelShape("sandbox", "sandbox", "sandbox", 1, 40_000)

CHEAPENED: Final = "gpt-4o-mini"
"""The model whose price fell by a quarter in the middle of the demo's time."""
DEARER_SOON: Final = "gpt-4o"
"""The model whose price rises by a tenth on the first of next month."""

# --- clients ---


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a client calls, by its own clock; `ended` is days ago, None: it still does."""

    hours: tuple[float, ...]
    weekdays: tuple[float, ...]  # Monday first
    growth: float = 1.0  # the last day against the first
    campaigns: tuple[tuple[int, int, float], ...] = ()  # (began days ago, days long, times as many calls)
    ended: int | None = None

    def weight(self, local: datetime, ago: float, days: int) -> float:
        """Return how many calls the hour at `local` has, relative to others; `ago` is in days, at midnight 0."""
        if self.ended is not None and ago < self.ended:
            return 0.0
        weight: float = self.hours[local.hour] * self.weekdays[local.weekday()] * self.growth ** (1 - ago / days)
        for began, long, factor in self.campaigns:
            if began - long < ago <= began:
                weight *= factor
        return weight


@dataclass(frozen=True, slots=True)
class KeyShape:
    """A key: its share of the calls, and its life in days, ago or to come."""

    name: str
    share: float = 1.0
    env: str = "production"
    made: int | None = None  # days ago; None: with its client
    revoked: int | None = None
    reason: str = ""
    expires_in: int | None = None
    sandbox: bool = False  # calls nothing but the sandbox


@dataclass(frozen=True, slots=True)
class LimitShape:
    """A limit: as large as the client's use of the last 30 days asks for, times `room`; or used to `used` right now."""

    metric: str
    cycle: str
    room: float = 1.5
    used: float | None = None


@dataclass(frozen=True, slots=True)
class ClientShape:
    """A client and its story."""

    name: str
    company: str
    email: str
    phone: str
    zone: str
    share: float  # of all calls
    rhythm: Rhythm
    models: Mapping[str, float]
    workflows: int
    owner: str = ADMIN
    markup_bp: int = 2_000
    speech: Mapping[Speech, float] = field(default_factory=lambda: {"chat/completions": 1.0})
    users: int = 0  # WhatsApp users
    keys: tuple[KeyShape, ...] = (KeyShape("n8n production"),)
    limits: tuple[LimitShape, ...] = ()
    fates: tuple[tuple[int, Fates], ...] = ()  # (from so many days ago, fates); before the first: WELL
    suspended: tuple[int, str] | None = None  # (days ago, reason)
    archived: bool = False
    daily_share: float | None = None  # its limit of requests a day, of an ordinary day's calls; set 10 days ago
    cycle_began: int | None = None  # the current monthly cycle, days ago
    notes: str = ""


WELL: Final[Fates] = {
    "ok": 967, "rejected": 7, "client_gone": 9, "broken": 3, "interrupted": 0.6, "failed": 6, "throttled": 3,
    "unknown_model": 1.5, "bad_json": 1,
}  # fmt: skip
AILING: Final[Fates] = {
    "ok": 560, "rejected": 12, "client_gone": 45, "broken": 40, "interrupted": 1, "failed": 260, "throttled": 80,
}  # fmt: skip

_OFFICE = (0, 0, 0, 0, 0, 0.1, 0.4, 1.5, 5, 8, 9, 8.5, 6, 7, 8.5, 8, 7, 4, 1.5, 0.6, 0.3, 0.2, 0.1, 0)
_DINNER = (0.3, 0.1, 0, 0, 0, 0, 0, 0.1, 0.4, 1, 2, 4, 5, 3, 1.5, 2, 4, 7, 9, 9, 7, 4, 2, 0.8)
_SHOP = (1.5, 0.9, 0.6, 0.4, 0.3, 0.5, 1, 2, 3, 4, 5, 5.5, 6, 6, 5.5, 5, 5, 5.5, 6.5, 7.5, 8, 7, 4.5, 2.5)
_NIGHT = (9, 8, 7, 5, 3, 1.5, 0.5, 0.3, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.7, 0.8, 1, 1.5, 2.5, 4, 6, 8, 9.5, 10)
_BATCH = (160, 40, 8, 1, 0.5, 0.5, 1, 2, 4, 5, 5, 5, 4, 5, 5, 5, 4, 3, 2, 1, 0.8, 0.6, 0.5, 0.5)
_ROUND = (3, 2.5, 2.2, 2, 2, 2.3, 3, 4, 5, 6, 6, 6, 5.5, 6, 6, 6, 5.5, 5, 4.5, 4, 4, 3.8, 3.5, 3.2)
_WEEK = (1.0, 1.05, 1.05, 1.0, 0.85, 0.06, 0.04)
_WEEKEND = (0.15, 0.25, 0.4, 0.6, 1.5, 2.2, 1.8)
_EVERY_DAY = (0.95, 0.95, 1.0, 1.0, 1.05, 1.1, 1.05)

CLIENTS: Final = (
    ClientShape(
        "Bright Smile Dental", "Bright Smile Dental GmbH", "office@brightsmile.example", "+49 30 5550 1180",
        "Europe/Berlin", 12, Rhythm(_OFFICE, _WEEK),
        {"gpt-4o-mini": 6, "gpt-4o": 2, "text-embedding-3-small": 1}, 14,
        limits=(LimitShape("credits", "month"), LimitShape("requests", "day", 4)),
        notes="Appointment reminders and intake forms. Contact is Dr. Weiss, mornings only.",
    ),
    ClientShape(
        "Trattoria Bella Vista", "Bella Vista S.r.l.", "ciao@bellavista.example", "+39 06 5550 2291",
        "Europe/Rome", 9, Rhythm(_DINNER, _WEEKEND), {"gpt-4o-mini": 5, "eu-gpt-4.1-mini": 2}, 9,
        owner=MARIA, users=260, limits=(LimitShape("sessions", "month", 1.4), LimitShape("credits", "month", 2)),
        notes="Table reservations over WhatsApp.",
    ),
    ClientShape(
        "Northwind Outdoor", "Northwind Outdoor Inc.", "growth@northwind.example", "+1 212 555 0143",
        "America/New_York", 14, Rhythm(_SHOP, _EVERY_DAY, campaigns=((71, 4, 9.0), (34, 3, 12.0), (6, 2, 14.0))),
        {"gpt-4o-mini": 5, "gpt-4.1-mini": 3, "gpt-5-mini": 1}, 18, markup_bp=2_500,
        limits=(LimitShape("credits", "month", 2.2), LimitShape("tokens", "day", 9)),
        notes="Campaign days bring ten times the usual load; they announce them a week before.",
    ),
    ClientShape(
        "Lumen Analytics", "Lumen Analytics LLC", "ops@lumen.example", "+1 303 555 0177",
        "America/Denver", 17, Rhythm(_ROUND, _EVERY_DAY, growth=9.0),
        {"gpt-5-mini": 4, "gpt-5": 1.5, "o4-mini": 1, "text-embedding-3-large": 2, "gpt-4o-mini": 2}, 40,
        speech={"chat/completions": 3, "responses": 2}, limits=(LimitShape("credits", "month", 1.8),),
    ),
    ClientShape(
        "Reykjavík Whale Tours", "Whale Tours ehf.", "booking@whales.example", "+354 555 0132",
        "Atlantic/Reykjavik", 10, Rhythm(_SHOP, _EVERY_DAY), {"gpt-4o": 2, "gpt-4o-mini": 5}, 12,
        owner=MARIA, users=180, limits=(LimitShape("credits", "month", used=0.93), LimitShape("requests", "day", 4)),
        cycle_began=20, notes="Asked twice to be told before the budget runs out.",
    ),
    ClientShape(
        "ParcelPilot Logistics", "ParcelPilot B.V.", "it@parcelpilot.example", "+31 20 555 0188",
        "Europe/Amsterdam", 11, Rhythm(_BATCH, _EVERY_DAY), {"gpt-4o-mini": 4, "gpt-4.1-mini": 3}, 16,
        daily_share=0.4, limits=(LimitShape("credits", "month", 1.7),),
        notes="A nightly job labels the day's parcels and leaves little for daytime.",
    ),
    ClientShape(
        "Fitstudio Nord", "Fitstudio Nord GmbH", "team@fitstudio.example", "+49 40 5550 3307",
        "Europe/Berlin", 5, Rhythm(_DINNER, _EVERY_DAY), {"gpt-4o-mini": 1}, 8,
        users=90, suspended=(12, "Invoice 2214 unpaid for 30 days"), limits=(LimitShape("credits", "month"),),
    ),
    ClientShape(
        "Hoffmann & Partner", "Kanzlei Hoffmann & Partner mbB", "kanzlei@hoffmann.example", "+49 89 5550 4410",
        "Europe/Berlin", 6, Rhythm(_OFFICE, _WEEK),
        {"mistral-large-latest": 3, "mistral-small-latest": 4, "mistral-embed": 2}, 11,
        fates=((6, AILING),), limits=(LimitShape("credits", "month", 2.5),),
        notes="Data must stay in the EU: Mistral and Azure only.",
    ),
    ClientShape(
        "GreenLeaf Garden Center", "GreenLeaf Ltd", "hello@greenleaf.example", "+44 20 5550 0164",
        "Europe/London", 4, Rhythm(_OFFICE, _EVERY_DAY, ended=9), {"gpt-4o-mini": 3, "gpt-4.1-mini": 1}, 8,
        owner=MARIA, limits=(LimitShape("credits", "month", 6),),
    ),
    ClientShape(
        "Tokyo Night Stays", "Night Stays K.K.", "desk@nightstays.example", "+81 3 5550 0129",
        "Asia/Tokyo", 9, Rhythm(_NIGHT, _EVERY_DAY), {"gpt-4o-mini": 4, "gpt-5-mini": 2}, 13,
        owner=MARIA, markup_bp=3_500, users=320,
        limits=(LimitShape("sessions", "month", 1.3), LimitShape("credits", "month", 1.6)),
    ),
    ClientShape(
        "Acme Real Estate", "Acme Real Estate Corp.", "automation@acme-homes.example", "+1 415 555 0101",
        "America/Los_Angeles", 10, Rhythm(_OFFICE, _WEEK, growth=1.6), {"eu-gpt-4o": 2, "gpt-4o-mini": 5}, 22,
        keys=(
            KeyShape("production", 6, made=41),
            KeyShape("production, old", 6, revoked=19, reason="Pasted into a support chat"),
            KeyShape("staging", 1, env="staging", sandbox=True),
            KeyShape("contractor", 1, env="staging", made=25, expires_in=5),
        ),
        limits=(LimitShape("credits", "month"), LimitShape("requests", "minute", 400)),
    ),
    ClientShape(
        "Café Morgenrot", "Café Morgenrot e.K.", "moin@morgenrot.example", "+49 421 5550 118",
        "Europe/Berlin", 0, Rhythm(_OFFICE, _WEEK), {"gpt-4o-mini": 1}, 0,
        limits=(LimitShape("credits", "month"), LimitShape("requests", "day")),
        notes="Signed yesterday; their n8n is being set up.",
    ),
    ClientShape(
        "Old Harbor Books", "Old Harbor Books LLP", "books@oldharbor.example", "+1 207 555 0190",
        "America/New_York", 3, Rhythm(_SHOP, _EVERY_DAY, ended=40), {"gpt-4o-mini": 1}, 8,
        archived=True, notes="Closed its online shop.",
    ),
)  # fmt: skip

MOST_CLIENTS: Final = 10_000


def clients(count: int) -> tuple[ClientShape, ...]:
    """Return so many: those of CLIENTS, and beyond them the same again under numbered names."""
    more = (
        replace(shape, name=f"{shape.name} {number}", company=f"{shape.company} {number}")
        for number in itertools.count(2)
        for shape in CLIENTS
    )
    return tuple(itertools.islice(itertools.chain(CLIENTS, more), count))


# --- workflows ---

WORKFLOWS: Final = (
    "lead-intake", "appointment-reminder", "inbox-triage", "whatsapp-concierge", "review-replies", "invoice-extraction",
    "weekly-report", "faq-bot", "contract-summary", "product-descriptions", "order-status", "crm-enrichment",
    "newsletter-draft", "call-transcript-notes", "booking-change", "returns-assistant", "translation", "alt-texts",
    "social-captions", "knowledge-search", "complaint-routing", "quote-builder", "onboarding-mail", "survey-digest",
)  # fmt: skip
