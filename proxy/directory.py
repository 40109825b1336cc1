"""Who may call what, in memory: keys, clients, limits, models, prices and providers as one immutable snapshot.

Reading configuration is the only ORM of the data plane, and it happens in a thread of its own, off the path of calls.
A change is noticed by its version number, which database triggers move, so it does not matter who made it or how.
While the database is away the last snapshot goes on serving.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from clients.models import Client, Limit, OwnPrice
from keys.models import AllowedModel, APIKey, KeyLimit
from pricing.credentials import UnreadableCredential
from pricing.models import SHARED, ConfigVersion, Model, Price, Provider
from pricing.quotes import RateCard, microseconds, schedule
from proxy.brake import BrakeRule
from proxy.errors import AuthUnavailable, ModelNotFound
from proxy.limits.rules import Rule, Subject
from proxy.request import Endpoint
from proxy.upstream_response import Target
from usage.paces import UsualPace
from usage.snapshot import one_moment

log = logging.getLogger("gateway.directory")

POLL_SECONDS = 0.25  # every process must notice a change within 1 s
STALE_SECONDS = 1.5  # without an answer from the database for that long, unknown is not the same as wrong


@dataclass(frozen=True, slots=True)
class ClientGrant:
    """A client as a call needs it."""

    id: int
    name: str
    status: str
    markup_bp: int
    own_prices: dict[int, RateCard]
    """By model, what the client pays in place of the markup."""
    subject: Subject
    brake: BrakeRule | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What one key may do."""

    key_id: int
    hint: str
    expires_at: int | None
    """µs since the epoch."""
    revoked: bool
    client: ClientGrant
    models: frozenset[str] | None
    """Names of the models that the key may use; None: all."""


@dataclass(frozen=True, slots=True)
class ProviderRoute:
    """A provider as a call needs it. `heads` holds, per endpoint, the request head up to what varies by call."""

    id: int
    name: str
    kind: str
    target: Target | None
    heads: dict[Endpoint, bytes]
    """Empty where the credential cannot be read."""


@dataclass(frozen=True, slots=True)
class Route:
    """A model that clients may ask for, and who serves it under which name at which prices."""

    model_id: int
    name: str
    upstream_name: str
    free: bool
    created: int
    """Seconds since the epoch."""
    provider: ProviderRoute
    starts: tuple[int, ...]
    cards: tuple[RateCard, ...]

    def card(self, at: int) -> RateCard | None:
        """Prices in force at `at` (µs); None where there are none."""
        position = bisect_right(self.starts, at)
        return self.cards[position - 1] if position else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it, at one version."""

    version: int
    grants: dict[bytes, Grant]
    routes: dict[str, Route]
    """What every client may use."""
    own_routes: dict[int, dict[str, Route | None]]
    """By client, what goes before those. None: switched off for this client, whatever others may use."""
    subjects: tuple[Subject, ...]


class Directory:
    """The current snapshot and the watch that keeps it current."""

    def __init__(self, on_change: Callable[[Snapshot], None]) -> None:
        self._on_change = on_change
        self._snapshot: Snapshot | None = None
        self._thread = ThreadPoolExecutor(1, "directory")
        self._answered = float("-inf")
        self._polling: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._targets: dict[tuple[object, ...], Target] = {}

    # --- for calls ---

    @property
    def snapshot(self) -> Snapshot | None:
        """What is known now; None until the database has answered once."""
        return self._snapshot

    @property
    def stale(self) -> bool:
        """Whether the database has not answered lately."""
        return asyncio.get_running_loop().time() - self._answered > STALE_SECONDS

    @property
    def state(self) -> str:
        """In a word, for /readyz."""
        if self._snapshot is None:
            return "missing"
        return "stale" if self.stale else "ok"

    def known(self, digest: bytes) -> Grant | None:
        """The grant of a key's digest, if this process knows it."""
        return self._snapshot.grants.get(digest) if self._snapshot is not None else None

    async def find(self, digest: bytes) -> Grant | None:
        """As `known`, after asking the database for news. Raises AuthUnavailable if it does not answer."""
        try:
            async with asyncio.timeout(STALE_SECONDS):
                if self._polling is not None and not self._polling.done():
                    await asyncio.shield(self._polling)  # not enough: it may have asked before the key was made
                await asyncio.shield(self._poll())
        except (TimeoutError, DatabaseError, InterfaceError) as error:
            raise AuthUnavailable(
                "This key cannot be checked right now; try again shortly.", headers=((b"retry-after", b"5"),)
            ) from error
        return self.known(digest)

    def route(self, model: str, client_id: int) -> Route:
        """The route of a model's name for a client. Raises ModelNotFound."""
        route: Route | None = None
        snapshot = self._snapshot
        if snapshot is not None:
            own = snapshot.own_routes.get(client_id)
            route = own[model] if own is not None and model in own else snapshot.routes.get(model)
        if route is None:
            raise _not_found(model)
        return route

    def routes(self, client_id: int) -> list[Route]:
        """Every route of a client, by name."""
        if self._snapshot is None:
            return []
        merged: dict[str, Route | None] = {**self._snapshot.routes, **self._snapshot.own_routes.get(client_id, {})}
        return [route for _, route in sorted(merged.items()) if route is not None]

    # --- keeping current ---

    async def start(self) -> None:
        """Read the snapshot, if the database answers, and watch from then on."""
        self._watching = asyncio.create_task(self._watch())
        try:
            await asyncio.shield(self._poll())
        except (DatabaseError, InterfaceError) as error:
            log.error("the configuration cannot be read: %s", error)

    async def stop(self) -> None:
        """End the watch."""
        if self._watching is not None:
            self._watching.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _watch(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await asyncio.shield(self._poll())
                failing = False
            except (DatabaseError, InterfaceError) as error:
                if not failing:
                    log.error("the database does not answer, the last configuration goes on serving: %s", error)
                failing = True
            except Exception:  # a watch that dies in silence would freeze the configuration for good
                log.exception("the configuration cannot be read, the last one goes on serving")

    def _poll(self) -> asyncio.Task[None]:
        """The poll under way, or a new one: however many ask, the database is asked once."""
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll_once())
        return self._polling

    async def _poll_once(self) -> None:
        loop = asyncio.get_running_loop()
        known = self._snapshot.version if self._snapshot is not None else None
        snapshot = await loop.run_in_executor(self._thread, self._read, known)
        self._answered = loop.time()
        if snapshot is not None:
            self._snapshot = snapshot
            self._on_change(snapshot)

    def _read(self, known: int | None) -> Snapshot | None:
        """A new snapshot, or None where version `known` is current. Runs in the thread."""
        try:
            if ConfigVersion.current() == known:
                return None
            with one_moment():
                return self._load()
        except (DatabaseError, InterfaceError):
            connection.close()
            raise

    def _load(self) -> Snapshot:
        version = ConfigVersion.current()
        configured = list(Client.objects.all())
        clients = _clients(configured)
        models = _allowed_models()
        grants = {
            bytes(key.digest): Grant(
                key_id=key.id,
                hint=key.hint,
                expires_at=None if key.expires_at is None else microseconds(key.expires_at),
                revoked=key.revoked_at is not None,
                client=clients[key.client_id],
                models=models.get(key.id),
            )
            for key in APIKey.objects.all()
        }
        providers = list(Provider.objects.all())
        by_provider = self._routes(providers)
        return Snapshot(
            version,
            grants,
            {name: route for name, route in _of_scope(SHARED, providers, by_provider).items() if route is not None},
            _own_routes(configured, providers, by_provider),
            tuple(client.subject for client in clients.values()),
        )

    def _routes(self, configured: Iterable[Provider]) -> dict[int, dict[str, Route | None]]:
        """By provider, what it serves; None: switched off."""
        providers = {provider.id: self._provider(provider) for provider in configured if provider.enabled}
        prices: dict[int, list[Price]] = {}
        for price in Price.objects.all():
            prices.setdefault(price.model_id, []).append(price)
        routes: dict[int, dict[str, Route | None]] = {}
        for model in Model.objects.order_by("name"):
            served = routes.setdefault(model.provider_id, {})
            if not model.enabled or model.provider_id not in providers:
                served[model.name] = None
                continue
            cards = schedule(prices.get(model.id, ()))
            served[model.name] = Route(
                model_id=model.id,
                name=model.name,
                upstream_name=model.upstream_name or model.name,
                free=model.free,
                created=int(model.created_at.timestamp()),
                provider=providers[model.provider_id],
                starts=tuple(start for start, _ in cards),
                cards=tuple(card for _, card in cards),
            )
        return routes

    def _provider(self, provider: Provider) -> ProviderRoute:
        if provider.kind == Provider.Kind.SANDBOX:
            return ProviderRoute(provider.id, provider.name, provider.kind, None, {})
        heads: dict[Endpoint, bytes] = {}
        target = None
        try:
            url = urlsplit(provider.base_url)
            target = self._target(provider, url.hostname or "", url.port, tls=url.scheme == "https")
            credential = provider.credential()
            heads = {endpoint: _head(endpoint, url.path, url.netloc, credential) for endpoint in Endpoint}
        except (UnreadableCredential, ValueError) as error:
            # One unusable provider must not keep all others from being served.
            log.error("provider %s cannot be used: %s", provider.name, error)
        return ProviderRoute(provider.id, provider.name, provider.kind, target, heads)

    def _target(self, provider: Provider, host: str, port: int | None, *, tls: bool) -> Target:
        """The target of a provider: the same object as long as nothing of it changed, since it keys the connections."""
        identity = (
            host,
            port or (443 if tls else 80),
            tls,
            float(provider.connect_timeout),
            float(provider.first_byte_timeout),
            float(provider.idle_timeout),
            float(provider.total_timeout),
            bool(settings.ALLOW_PRIVATE_PROVIDERS),
        )
        if identity not in self._targets:
            self._targets[identity] = Target(*identity)
        return self._targets[identity]


def allows(grant: Grant, model: str) -> bool:
    """Whether the grant's key may use the model of that name."""
    return grant.models is None or model in grant.models


def allowed(grant: Grant, route: Route) -> Route:
    """`route`, if the grant's key may use it. Raises ModelNotFound, as for a model that does not exist."""
    if not allows(grant, route.name):
        raise _not_found(route.name)
    return route


def _not_found(model: str) -> ModelNotFound:
    return ModelNotFound(f"The model {model!r} does not exist or you do not have access to it.", param="model")


def _allowed_models() -> dict[int, frozenset[str]]:
    names: dict[int, list[str]] = {}
    for key_id, name in AllowedModel.objects.values_list("key_id", "model__name"):
        names.setdefault(key_id, []).append(name)
    return {key_id: frozenset(models) for key_id, models in names.items()}


def _of_scope(
    scope: str, providers: Iterable[Provider], by_provider: dict[int, dict[str, Route | None]]
) -> dict[str, Route | None]:
    """What the providers of a scope serve; a name of theirs that is switched off is not there."""
    served: dict[str, Route | None] = {}
    for provider in providers:
        if provider.scope == scope:
            for name, route in by_provider.get(provider.id, {}).items():
                if route is not None:
                    served[name] = route
    return served


def _own_routes(
    clients: Iterable[Client], providers: list[Provider], by_provider: dict[int, dict[str, Route | None]]
) -> dict[int, dict[str, Route | None]]:
    """By client, what goes before the shared routes: its own provider's, then its owner's providers'."""
    accounts = {provider.id for provider in providers if provider.billed_to_client}
    owners = {provider.owner_id for provider in providers if provider.owner_id is not None}
    of_owners = {owner: _of_scope(f"owner:{owner}", providers, by_provider) for owner in owners}
    own: dict[int, dict[str, Route | None]] = {}
    for client in clients:
        routes = of_owners.get(client.owner_id, {}) if client.owner_id is not None else {}
        if client.provider_id is not None:
            # What is switched off on a client's own account goes nowhere else: somebody else would get the bill.
            preferred = {
                name: route
                for name, route in by_provider.get(client.provider_id, {}).items()
                if route is not None or client.provider_id in accounts
            }
            routes = {**routes, **preferred}
        if routes:
            own[client.id] = routes
    return own


def _clients(clients: Iterable[Client]) -> dict[int, ClientGrant]:
    rules: dict[int, list[Rule]] = {}
    for limit in Limit.objects.order_by("id"):
        rules.setdefault(limit.client_id, []).append(Rule(limit.id, limit.metric, limit.amount, limit.cycle))
    of_keys = KeyLimit.objects.filter(key__revoked_at=None).order_by("id").select_related("key")
    for one in of_keys:
        rule = Rule(one.id, one.metric, one.amount, one.cycle, one.key_id)
        rules.setdefault(one.key.client_id, []).append(rule)
    paces = {pace.client_id: pace for pace in UsualPace.objects.filter(client__brake_times__isnull=False)}
    own: dict[int, dict[int, RateCard]] = {}
    for price in OwnPrice.objects.all():
        own.setdefault(price.client_id, {})[price.model_id] = price.card
    return {
        client.id: ClientGrant(
            id=client.id,
            name=client.name,
            status=client.status,
            markup_bp=client.markup_bp,
            own_prices=own.get(client.id, {}),
            subject=Subject(client.id, tuple(rules.get(client.id, ())), _zone(client), client.cycle_start_day),
            brake=_brake(client, paces.get(client.id)),
        )
        for client in clients
    }


def _brake(client: Client, pace: UsualPace | None) -> BrakeRule | None:
    if client.brake_per_minute is None and pace is None:
        return None
    rates, user = (pace.rates(client), pace.user_rate(client)) if pace else ({}, None)
    return BrakeRule(client.brake_per_minute, client.brake_action == Client.Brake.STOP, rates, user)


def _zone(client: Client) -> ZoneInfo:
    try:
        return client.zone
    except (ZoneInfoNotFoundError, ValueError):
        # Written past the checks, or gone from the database of zones: one client must not stop all others.
        log.error("client %s has an unknown time zone %r; its days are counted in UTC", client.name, client.time_zone)
        return ZoneInfo("UTC")


def _head(endpoint: Endpoint, base_path: str, host: str, credential: str) -> bytes:
    authorization = f"authorization: Bearer {credential}\r\n" if credential else ""
    return (
        f"POST {base_path.rstrip('/')}/{endpoint.value} HTTP/1.1\r\n"
        f"host: {host}\r\n"
        f"{authorization}"
        "content-type: application/json\r\n"
        "accept-encoding: identity\r\n"
        "user-agent: llm-gateway\r\n"
    ).encode("latin-1")
