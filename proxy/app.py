"""What the edge serves: /v1, health, metrics, standings; everything else is the back office's."""

import hmac
import logging
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import orjson

from proxy.authenticate import Authenticator, admit
from proxy.directory import Directory, Grant, Route, allowed, allows
from proxy.errors import GatewayError, InvalidKey, InvalidRequest, MethodNotAllowed, NotFound, TooManyWrongKeys
from proxy.exchange import NOWHERE, Exchange, HeaderList, Origin, Request, origin
from proxy.limits.headers import limit_headers
from proxy.limits.memory import MemoryLimits
from proxy.limits.told import standings_told
from proxy.metrics import Metrics
from proxy.own_usage import OwnUsageTeller
from proxy.pipeline import Pipeline
from proxy.request import Endpoint
from proxy.web import Networks, WebRelay, client_address

log = logging.getLogger("gateway.app")

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")

_POST = {b"/v1/" + endpoint.value.encode(): endpoint for endpoint in Endpoint}
_MODELS = b"/v1/models"
_OWN_USAGE = b"/v1/gateway/usage"
RECHECK_US = 250_000  # a key judged longer ago than that is judged again before its call begins
_EXISTS = (
    "POST "
    + ", ".join(sorted(path.decode() for path in _POST))
    + ", GET /v1/models, /v1/models/{id} and /v1/gateway/usage"
)
# Paths that OpenAI's API has below /v1: somebody who calls one without it has set a base URL that lacks it.
_BARE = tuple(b"/" + name for name in (b"chat/", b"completions", b"embeddings", b"responses", b"models"))


class Health(Protocol):
    """What /readyz shows."""

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether calls can be served, and the state of each part."""


class Caller:
    """What the edge knows of a request to /v1 once its headers are in."""

    __slots__ = ("at", "grant", "id", "origin")

    def __init__(self, call_id: str, at: int) -> None:
        self.id = call_id
        self.at = at
        self.grant: Grant | None = None
        self.origin: Origin = NOWHERE


class Gateway:
    """The application of the gateway process."""

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        directory: Directory,
        authenticator: Authenticator,
        limits: MemoryLimits,
        pipeline: Pipeline,
        metrics: Metrics,
        own_usage: OwnUsageTeller,
        health: Health,
        web: WebRelay,
        trusted: Networks,
        standings_token: str,
    ) -> None:
        self._clock = clock
        self._new_id = new_id
        self._directory = directory
        self._authenticator = authenticator
        self._limits = limits
        self._pipeline = pipeline
        self._metrics = metrics
        self._own_usage = own_usage
        self._health = health
        self._web = web
        self._trusted = trusted
        self._standings_key = b"Bearer " + standings_token.encode()

    # --- the edge's view ---

    def check(self, request: Request) -> None:
        """Refuse, before the body arrives, what can be refused by its headers."""
        path = request.path
        if not (path.startswith(b"/v1/") or path == b"/v1"):
            if path.startswith(_BARE):
                request.state = Caller(self._new_id(), self._clock())
                raise NotFound(f"There is no {_shown(path)} here: the base URL ends in /v1. Try /v1{_shown(path)}.")
            return
        caller = request.state = Caller(self._new_id(), self._clock())
        _check_path(path, request.method)
        address = client_address(request, self._trusted)
        caller.origin = origin(address, request)
        try:
            caller.grant = self._authenticator.known(request, address, caller.at)
        except GatewayError:
            self._metrics.wrong_keys += 1
            raise
        if caller.grant is not None:
            self._admit(caller, caller.grant, path)
        if (request.header(b"content-encoding") or b"identity") != b"identity":
            raise InvalidRequest("The body must not be compressed.", param="content-encoding")

    async def _judge(self, request: Request, caller: Caller, now: int) -> None:
        """Judge a key that the database has to be asked for, or again one that may have been revoked meanwhile.

        A body takes its time, and so does the call before a pipelined one.
        """
        address = client_address(request, self._trusted)
        try:
            caller.grant = self._authenticator.known(request, address, now)
            if caller.grant is None:
                caller.grant = await self._authenticator.find(request, address, now)
        except (InvalidKey, TooManyWrongKeys):
            self._metrics.wrong_keys += 1
            raise
        caller.at = now
        self._admit(caller, caller.grant, request.path)

    def _admit(self, caller: Caller, grant: Grant, path: bytes) -> None:
        try:
            admit(grant, caller.at)
        except GatewayError as error:
            if path in _POST:
                self._pipeline.refuse(_POST[path], grant, caller.origin, caller.id, caller.at, error)
            raise

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request."""
        request = exchange.request
        caller = request.state
        if caller is None:
            await self._serve_other(exchange)
            return
        assert isinstance(caller, Caller)
        now = self._clock()
        if caller.grant is None or caller.at + RECHECK_US < now:
            await self._judge(request, caller, now)
        assert caller.grant is not None
        endpoint = _POST.get(request.path)
        if endpoint is not None:
            refused = await self._pipeline.call(exchange, endpoint, caller.grant, caller.origin, caller.id, caller.at)
            if refused is not None:
                exchange.respond(*self.render(request, refused))
        elif request.path == _OWN_USAGE:
            document = await self._own_usage.tell(caller.grant)
            headers = [JSON, (b"cache-control", b"no-store"), *self.call_headers(caller.id, caller.grant)]
            exchange.respond(200, headers, document)
        else:
            self._serve_models(exchange, caller, caller.grant)

    def render(self, request: Request, error: GatewayError) -> tuple[int, HeaderList, bytes]:
        """An error in OpenAI's shape, with the request id and the limits as on every answer."""
        caller = request.state
        headers = [JSON, *error.headers]
        if isinstance(caller, Caller):
            headers += self.call_headers(caller.id, caller.grant)
        else:
            headers.append((b"x-request-id", self._new_id().encode()))
        return error.status, headers, error.body()

    def call_headers(self, call_id: str, grant: Grant | None) -> HeaderList:
        """The headers of every answer under /v1: request id, and limits under OpenAI's names."""
        headers: HeaderList = [(b"x-request-id", call_id.encode())]
        if grant is not None and grant.client.subject.rules:
            now = self._clock()
            headers += limit_headers(self._limits.standings(grant.client.subject, now, grant.key_id), now)
        return headers

    # --- models ---

    def _serve_models(self, exchange: Exchange, caller: Caller, grant: Grant) -> None:
        """The list, or one of it. It touches no limit: tools use it as their connection test."""
        path = exchange.request.path
        if path == _MODELS:
            usable = [
                _model(route)
                for route in self._directory.routes(grant.client.id)
                if allows(grant, route.name) and _usable(route, caller.at)
            ]
            document: dict[str, Any] = {"object": "list", "data": usable}
        else:
            route = self._directory.route(_unquoted(path[len(_MODELS) + 1 :]), grant.client.id)
            document = _model(allowed(grant, route))
        exchange.respond(200, [JSON, *self.call_headers(caller.id, grant)], orjson.dumps(document))

    # --- health, metrics, the rest ---

    async def _serve_other(self, exchange: Exchange) -> None:
        path = exchange.request.path
        if path == b"/healthz":
            exchange.respond(200, [(b"content-type", b"text/plain")], b"ok\n")
        elif path == b"/readyz":
            ready, report = self._health.report()
            exchange.respond(200 if ready else 503, [JSON], orjson.dumps(report, option=orjson.OPT_APPEND_NEWLINE))
        elif path == b"/metrics":
            exchange.respond(200, [(b"content-type", b"text/plain; version=0.0.4")], self._metrics.render())
        elif path == b"/standings" and self._is_back_office(exchange.request):
            exchange.respond(200, [JSON], await self._standings(exchange.request.target.partition(b"?")[2]))
        else:
            await self._web.serve(exchange)

    def _is_back_office(self, request: Request) -> bool:
        return hmac.compare_digest(request.header(b"authorization") or b"", self._standings_key)

    async def _standings(self, query: bytes) -> bytes:
        snapshot = self._directory.snapshot
        subjects = snapshot.subjects if snapshot is not None else ()
        return orjson.dumps(await standings_told(self._limits, subjects, self._clock, query))


def _check_path(path: bytes, method: bytes) -> None:
    if path in _POST:
        if method != b"POST":
            raise MethodNotAllowed(f"{_shown(path)} takes POST only.", headers=((b"allow", b"POST"),))
    elif path in (_MODELS, _OWN_USAGE) or (path.startswith(_MODELS + b"/") and len(path) > len(_MODELS) + 1):
        if method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(f"{_shown(path)} takes GET only.", headers=((b"allow", b"GET"),))
    else:
        raise NotFound(f"There is no {_shown(path)} here. There are: {_EXISTS}.")


def _shown(path: bytes) -> str:
    return path[:100].decode("ascii", "replace")


def _unquoted(name: bytes) -> str:
    return unquote_to_bytes(name).decode("utf-8", "replace")[:200]


def _usable(route: Route, at: int) -> bool:
    return route.free or route.card(at) is not None


def _model(route: Route) -> dict[str, Any]:
    return {"id": route.name, "object": "model", "created": route.created, "owned_by": route.provider.name}
