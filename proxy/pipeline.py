"""One call, from a read key to settled usage. This is the first file to read.

    authenticate ─▶ read ─▶ admit ─▶ forward ─▶ relay ─▶ settle

The rule that everything here keeps: a call's end is in the journal before its last byte goes to the client, and a call
that a provider may bill is in the journal before its first byte goes to the provider.
"""

import asyncio
import contextlib
from collections.abc import Callable

from pricing.quotes import Usage
from proxy.admission import Admission, session_digest
from proxy.brake import Brake
from proxy.directory import Directory, Grant, Route, allowed
from proxy.errors import (
    GatewayError,
    InternalError,
    JournalUnavailable,
    ShuttingDown,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamInvalid,
)
from proxy.exchange import SHUTDOWN, Exchange, HeaderList, Origin
from proxy.flight import Flight, Result, refused
from proxy.forward import (
    Answer,
    Forwarder,
    asks_for_usage,
    client_headers,
    is_event_stream,
    parse_answer,
    read_body,
)
from proxy.limits.memory import MemoryLimits
from proxy.limits.reservation import Reservation
from proxy.request import CallRequest, Endpoint, read_call
from proxy.sse import EventStream, error_event
from proxy.tokens import RelayedText, count_answer, own_usage, rough_input
from proxy.upstream_response import UpstreamError
from proxy.usage_report import read_usage
from usage import journal as journal_file
from usage import outcomes
from usage.lines import End, encode

REJECTED_CODE = "provider_rejected"


class Pipeline:
    """The stages of a call, over the parts they need."""

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        directory: Directory,
        admission: Admission,
        limits: MemoryLimits,
        journal: journal_file.Journal,
        forwarder: Forwarder,
        headers: Callable[[str, Grant], HeaderList],
        on_end: Callable[[End, Grant, Route | None], None],
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._admission = admission
        self._brake = Brake()
        self._limits = limits
        self._journal = journal
        self._forwarder = forwarder
        self._headers = headers
        self._on_end = on_end
        self.in_flight = 0

    async def call(
        self, exchange: Exchange, endpoint: Endpoint, grant: Grant, origin: Origin, call_id: str, at: int
    ) -> GatewayError | None:
        """Serve one call; return what a limit refused it for, which the caller answers.

        Raises GatewayError for whatever else ends it before a byte of an answer went out.
        """
        flight = await self._admit(exchange, endpoint, grant, origin, call_id, at)
        if isinstance(flight, GatewayError):
            return flight
        self.in_flight += 1
        broken: BaseException | None = None
        try:
            try:
                await self._fly(flight, exchange)
            except BaseException as error:
                broken = error  # what follows may wait, which no handler here does: setup.py
            if broken is not None:
                await self._end_broken(flight, exchange, broken)
                raise broken
        finally:
            self.in_flight -= 1
        return None

    async def _end_broken(self, flight: Flight, exchange: Exchange, broken: BaseException) -> None:
        if isinstance(broken, asyncio.CancelledError):
            await self._cancelled(flight, exchange, shutdown=broken.args == (SHUTDOWN,))
        elif isinstance(broken, GatewayError):
            await self._settle(flight, Result(outcomes.UPSTREAM_ERROR, broken.status, code=broken.code))
        else:  # a fault of ours: the provider may have worked, the client got nothing
            await self._settle(flight, Result(outcomes.UPSTREAM_ERROR, 500, code=InternalError.code))

    # --- read, admit ---

    async def _admit(
        self, exchange: Exchange, endpoint: Endpoint, grant: Grant, origin: Origin, call_id: str, at: int
    ) -> Flight | GatewayError:
        call: CallRequest | None = None
        route: Route | None = None
        session: str | None = None
        try:
            call = read_call(endpoint, exchange.request.body, exchange.request.header(b"x-gateway-tags"))
            session = session_digest(grant.client.id, call.tags.session)
            route = allowed(grant, self._directory.route(call.model, grant.client.id))
            outcome: tuple[Reservation, Usage] | GatewayError | None = None
            if grant.client.brake is not None:
                outcome = self._brake.check(grant.client.brake, grant.client.id, session, call.tags.workflow, at)
            if outcome is None:
                outcome = await self._admission.reserve(call_id, grant, call, route, session)
            if isinstance(outcome, GatewayError):
                self.refuse(endpoint, grant, origin, call_id, at, outcome, call=call, route=route, session=session)
                return outcome
            reservation, rough = outcome
            flight = Flight(call_id, reservation.admitted_at, grant, origin, call, route, reservation, session, rough)
            unwritten: journal_file.JournalUnavailable | None = None
            try:
                self._journal.begin(call_id, flight.begin_line())
            except journal_file.JournalUnavailable as unavailable:
                unwritten = unavailable
            if unwritten is not None:
                await self._limits.release(reservation)
                raise JournalUnavailable(
                    "The gateway cannot put calls on record right now, so it makes none.",
                    headers=((b"retry-after", b"5"),),
                ) from unwritten
        except GatewayError as error:
            self.refuse(endpoint, grant, origin, call_id, at, error, call=call, route=route, session=session)
            raise
        return flight

    def refuse(
        self,
        endpoint: Endpoint,
        grant: Grant,
        origin: Origin,
        call_id: str,
        at: int,
        error: GatewayError,
        *,
        call: CallRequest | None = None,
        route: Route | None = None,
        session: str | None = None,
    ) -> None:
        """Put a refused call on record, as far as it was read."""
        result = Result(outcomes.REFUSED, error.status, code=error.code)
        end = refused(call_id, at, grant, origin, endpoint.value, call, route, session, result, self._clock())
        # Nothing was consumed, so a full disk may lose it; the journal says so itself, and readiness shows it.
        with contextlib.suppress(journal_file.JournalUnavailable):
            self._journal.refused(encode(end))
        self._on_end(end, grant, route)

    # --- forward, relay ---

    async def _fly(self, flight: Flight, exchange: Exchange) -> None:
        flight.sent = True
        answer = await self._forwarder.send(flight.call, flight.route, exchange.request.headers)
        try:
            upstream_id = answer.header(b"x-request-id")
            if upstream_id is not None:
                flight.provider_request_id = upstream_id[:200].decode("latin-1")
            if flight.call.stream and answer.status == 200 and is_event_stream(answer):
                await self._relay_stream(flight, exchange, answer)
            else:
                await self._relay_whole(flight, exchange, answer)
        except UpstreamError as error:
            raise self._forwarder.failure(error, flight.route) from error
        finally:
            self._forwarder.release(answer)

    async def _relay_whole(self, flight: Flight, exchange: Exchange, answer: Answer) -> None:
        flight.first_byte_at = self._clock()
        body = await read_body(answer)
        document = parse_answer(body)
        call = flight.call
        if answer.status != 200:
            await self._settle(flight, Result(outcomes.REJECTED, answer.status, code=REJECTED_CODE))
        else:
            if document.get("error") and call.endpoint is not Endpoint.RESPONSES:
                raise UpstreamFailed("The provider failed to answer; try again shortly.")
            usage = read_usage(document.get("usage"), call.endpoint)
            counted = own_usage(call, count_answer(document, call.model)) if usage is None else usage
            await self._settle(
                flight,
                Result(
                    outcomes.OK,
                    200,
                    counted,
                    estimated=usage is None,
                    model=_text(document.get("model")),
                    service_tier=_text(document.get("service_tier")),
                ),
            )
        exchange.respond(answer.status, client_headers(answer) + self._headers(flight.id, flight.grant), body)

    async def _relay_stream(self, flight: Flight, exchange: Exchange, answer: Answer) -> None:
        if (answer.header(b"content-encoding") or b"identity") != b"identity":
            raise UpstreamInvalid("The provider's answer is compressed, which was not asked for.")
        call = flight.call
        stream = EventStream(call.endpoint, hide_usage=asks_for_usage(call))
        flight.relayed = relayed = RelayedText(call)
        failure: GatewayError | None = None
        last = b""
        try:
            while not stream.done and (chunk := await answer.chunk()):
                events = stream.feed(chunk)
                if events:
                    if flight.first_byte_at is None:
                        flight.first_byte_at = self._clock()
                        exchange.start(200, client_headers(answer) + self._headers(flight.id, flight.grant))
                    relayed.add(events)
                    if stream.done:
                        last = events  # its end goes on record first
                    else:
                        exchange.send(events)
                        await exchange.drain()
        except UpstreamError as error:
            failure = self._forwarder.failure(error, flight.route)
        if not stream.done and failure is None:
            failure = UpstreamDisconnected("The provider's stream ended before it was whole.")
        if failure is not None and not exchange.started:
            raise failure
        if failure is not None:
            last = error_event(call.endpoint, failure)
        await self._settle(flight, _stream_result(flight, stream, failure))
        exchange.finish(last)
        if failure is None:
            self._forwarder.finish(answer)

    # --- settle ---

    async def _cancelled(self, flight: Flight, exchange: Exchange, *, shutdown: bool) -> None:
        """The client hung up, or this process stops: the provider is cancelled already; what was relayed is paid.

        Raises ShuttingDown for a client that waits and has got nothing yet.
        """
        if flight.settled:
            return
        outcome = outcomes.INTERRUPTED if shutdown else outcomes.CLIENT_GONE
        status = 200 if exchange.started else ShuttingDown.status if shutdown else 0
        usage = own_usage(flight.call, _relayed_tokens(flight)) if flight.sent else Usage(rough_input(flight.call))
        code = ShuttingDown.code if shutdown else None
        await self._settle(flight, Result(outcome, status, usage, estimated=True, code=code))
        if shutdown:
            error = ShuttingDown("The gateway is restarting; try again.", headers=((b"retry-after", b"1"),))
            if not exchange.started:
                raise error
            exchange.finish(error_event(flight.call.endpoint, error))

    async def _settle(self, flight: Flight, result: Result) -> None:
        """Turn the reservation into what was used, and put the end on record; again, it does nothing."""
        if flight.settled:
            return
        flight.settled = True
        heir: str | None = None
        cost = flight.price(result.usage, result.service_tier or flight.call.service_tier)
        if result.outcome in outcomes.COUNTED:
            usage = result.usage
            opened = await self._limits.settle(flight.reservation, usage.input_tokens + usage.output_tokens, cost[1])
        else:
            heir = await self._limits.release(flight.reservation)
            opened = False
        end = flight.end(result, session_opened=opened, cost=cost, now=self._clock())
        self._journal.end(flight.id, encode(end))
        if heir is not None:
            self._journal.take_session(heir)
        self._on_end(end, flight.grant, flight.route)


def _stream_result(flight: Flight, stream: EventStream, failure: GatewayError | None) -> Result:
    usage = stream.usage
    broken = failure is not None or (stream.failed and usage is None)
    return Result(
        outcomes.BROKEN if broken else outcomes.OK,
        200,
        own_usage(flight.call, _relayed_tokens(flight)) if usage is None else usage,
        estimated=usage is None,
        code=failure.code if failure is not None else "provider_error_event" if stream.failed else None,
        model=stream.model,
        service_tier=stream.service_tier,
    )


def _relayed_tokens(flight: Flight) -> int:
    return 0 if flight.relayed is None else flight.relayed.tokens()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
