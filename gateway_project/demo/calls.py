"""All calls of all clients, in the order of their admission, day by day. The same seed and day give the same calls.

A client's calls are drawn from decks: some hundreds of executions of its workflows, made beforehand for each stretch of
time in which its prices, keys and luck stay the same. So a call costs a microsecond, and ten million are a matter of
minutes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Final, NamedTuple

from clients.cycles import window
from gateway_project.demo.fates import Template, Workflow, template
from gateway_project.demo.shapes import SANDBOX_MODEL, WELL, WORKFLOWS, Fates, Speech
from gateway_project.demo.world import KeyOfClient, Party, PricedModel, World, midnight
from pricing.quotes import RateCard, microseconds
from proxy.admission import session_digest

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR
_NEVER: Final = 2**62  # µs
_JITTER: Final = 0xFFFE  # µs, even: two calls of one template are told apart
_AFTER_REVOCATION: Final = 2 * DAY  # for so long somebody goes on trying a key
_TIGHTENED: Final = 10  # days ago; since then the limit of requests a day holds
_LARGEST_DECK: Final = 2048
_SMALLEST_DECK: Final = 96


class Call(NamedTuple):
    """A call and its moment. Admissions are odd µs and latencies even, so that no time ever lacks its fraction."""

    at: int  # µs
    noise: int  # 74 bits, for its ids
    latency: int  # µs
    jitter: int  # µs, within the latency
    template: Template
    execution: int
    session: str
    opened: bool


class Run(NamedTuple):
    """An execution: calls at even offsets (µs) from its start."""

    steps: tuple[tuple[int, Template], ...]
    spent: Template | None  # what becomes of it where the client has used up its requests of the day


@dataclass(slots=True)
class _Stretch:
    """From `start` on (µs), until the next one, executions come from `deck`, of `mean` calls each."""

    start: int
    deck: list[Run]
    mean: float


@dataclass(slots=True)
class _Life:
    """A client while its calls are made."""

    party: Party
    rng: Random
    stretches: list[_Stretch]
    scale: float  # calls, for each unit of its rhythm's weight
    daily: int | None  # its limit of requests a day
    users: list[str] = field(default_factory=list)
    sessions: dict[str, int] = field(default_factory=dict)  # digest -> opened, µs
    execution: int = 0
    today: tuple[int, int] = (0, 0)  # the window of the daily limit that is being counted
    counted: int = 0


class Calls:
    """Makes the calls of `world`: about `records` in the `days` whole days before `now`, and today's up to `now`."""

    def __init__(
        self, world: World, now: datetime, days: int, records: int, seed: int,
        encode: Callable[[tuple[object, ...]], object],
    ) -> None:  # fmt: skip
        """`encode` gives what the store keeps of a template's values."""
        self.start = midnight(now, days)
        self.now = microseconds(now)
        self.days = days
        shares = sum(party.shape.share for party in world.parties)
        self._world, self._seed, self._encode = world, seed, encode
        self._lives = [
            self._life(party, records * party.shape.share / shares) for party in world.parties if party.shape.share
        ]

    def daily_limits(self) -> dict[int, int]:
        """Return the limits of requests a day that the calls keep to, by client id."""
        return {life.party.client.pk: life.daily for life in self._lives if life.daily is not None}

    def by_day(self) -> Iterator[tuple[datetime, list[Call]]]:
        """Yield each day (UTC midnight) and the calls admitted in it, in order, all of them settled by now."""
        late: list[Call] = []
        for day in range(self.days + 1):
            midnight_us = microseconds(self.start) + day * DAY
            calls = late
            for life in self._lives:
                self._add(life, midnight_us, calls)
            calls.sort()
            end = min(midnight_us + DAY, self.now)
            cut = bisect_right(calls, end, key=lambda call: call.at)
            calls, late = calls[:cut], calls[cut:]
            if midnight_us + 2 * DAY > self.now:  # what is still in flight has no record
                calls = [call for call in calls if call.at + call.latency <= self.now]
            yield self.start + timedelta(days=day), calls

    # --- one client, one day ---

    def _weight(self, party: Party, hour_us: int) -> float:
        ago = (microseconds(self.start) + self.days * DAY - hour_us) / DAY
        local = datetime.fromtimestamp(hour_us // SECOND, party.client.zone)
        return party.shape.rhythm.weight(local, ago, self.days)

    def _add(self, life: _Life, midnight_us: int, calls: list[Call]) -> None:
        rng, place = life.rng, 0
        stretches = life.stretches
        for hour_us in range(midnight_us, midnight_us + DAY, HOUR):
            weight = self._weight(life.party, hour_us)
            if not weight:
                continue
            while place + 1 < len(stretches) and stretches[place + 1].start <= hour_us:
                place += 1
            expected = weight * life.scale / stretches[place].mean * rng.lognormvariate(0, 0.12)
            starts = sorted([hour_us + int(rng.random() * HOUR) | 1 for _ in range(int(expected + rng.random()))])
            at = 0
            for number in range(place, len(stretches)):
                until = stretches[number + 1].start if number + 1 < len(stretches) else _NEVER
                first, at = at, bisect_left(starts, until)
                self._draw(life, stretches[number].deck, starts[first:at], until, calls)
                if at == len(starts):
                    break

    def _draw(self, life: _Life, deck: list[Run], starts: list[int], until: int, calls: list[Call]) -> None:
        """Add an execution out of `deck` for each of `starts`; what would come at `until` or later never happens."""
        if not starts:
            return
        random, bits, users, sessions = life.rng.random, life.rng.getrandbits, life.users, life.sessions
        size, add, execution, new = len(deck), calls.append, life.execution, tuple.__new__
        session, opened = "", False
        for start in starts:
            steps, spent = deck[int(random() * size)]
            execution += 1
            if users:
                session = users[int(random() ** 1.6 * len(users))]
            if spent is not None:
                steps = self._allowed(life, start, steps, spent)
            for offset, chosen in steps:
                at = start + offset
                if at >= until:
                    break
                if users:
                    opened = chosen.counted and chosen.read and at - sessions.get(session, -DAY) >= DAY
                    if opened:
                        sessions[session] = at
                noise = bits(74)
                jitter = noise & _JITTER if chosen.reached else noise & 0x3E
                add(new(Call, (at, noise, chosen.latency_us + jitter, jitter, chosen, execution, session, opened)))
        life.execution = execution

    def _allowed(
        self, life: _Life, start: int, steps: tuple[tuple[int, Template], ...], spent: Template
    ) -> tuple[tuple[int, Template], ...]:
        """Return what the limit of requests a day leaves of an execution: all, some, or a refusal."""
        if not life.today[0] <= start < life.today[1]:
            client = life.party.client
            begins, ends = window("day", start, client.zone, client.cycle_start_day)
            assert ends is not None  # only "in total" never ends
            life.today, life.counted = (begins, ends), 0
        if start < microseconds(self.start) + (self.days - _TIGHTENED) * DAY:
            return steps
        left = (life.daily or 0) - life.counted
        within = [step for step in steps if start + step[0] < life.today[1]]
        allowed: list[tuple[int, Template]] = []
        for offset, chosen in within:
            if left <= 0:
                allowed.append((offset, spent))
                break
            allowed.append((offset, chosen))
            left -= chosen.counted
        life.counted = (life.daily or 0) - left
        return tuple(allowed)

    # --- decks ---

    def _life(self, party: Party, calls: float) -> _Life:
        shape = party.shape
        rng = Random(f"{self._seed}/{shape.name}")  # noqa: S311 - believable, not secret
        begin = microseconds(self.start)
        weights = sum(self._weight(party, hour) for hour in range(begin, begin + self.days * DAY, HOUR))
        workflows = _workflows(rng, party, self._world)
        size = max(_SMALLEST_DECK, min(_LARGEST_DECK, int(calls) // 10))
        stretches = [self._stretch(rng, party, workflows, start, size) for start in self._boundaries(party, workflows)]
        users = [session_digest(party.client.pk, f"{party.client.phone}/{number}") for number in range(shape.users)]
        return _Life(
            party=party,
            rng=rng,
            stretches=stretches,
            scale=calls / weights if weights else 0,
            daily=None if shape.daily_share is None else max(3, int(shape.daily_share * calls / self.days)),
            users=[user for user in users if user],
            execution=rng.randrange(1_000, 90_000),
        )

    def _boundaries(self, party: Party, workflows: list[Workflow]) -> list[int]:
        """Return when anything changes for this client (µs), its first moment first."""
        begin = microseconds(self.start)
        moments = {microseconds(price.effective_from) for flow in workflows for price in flow.model.prices}
        moments |= {begin + (self.days - ago) * DAY for ago, _ in party.shape.fates}
        moments.add(party.suspended_us or begin)
        for key in party.keys:
            moments.add(key.made_us)
            if key.revoked_us is not None:
                moments |= {key.revoked_us, key.revoked_us + _AFTER_REVOCATION}
        return [begin, *sorted(moment for moment in moments if begin < moment <= self.now)]

    def _stretch(self, rng: Random, party: Party, workflows: list[Workflow], start: int, size: int) -> _Stretch:
        fates: Fates = WELL
        for ago, changed in party.shape.fates:
            if start >= microseconds(self.start) + (self.days - ago) * DAY:
                fates = changed
        keys: dict[KeyOfClient, float] = {}
        for key in party.keys:
            gone = key.revoked_us is not None and key.revoked_us <= start
            given_up = key.revoked_us is not None and key.revoked_us + _AFTER_REVOCATION <= start
            if key.made_us <= start and not given_up:
                keys[key] = key.shape.share * (0.1 if gone else 1)
        sandbox = self._world.models[SANDBOX_MODEL.name]
        deck = []
        cards = {flow.model.id: flow.model.card(start) for flow in workflows}
        flows = rng.choices(workflows, [flow.weight for flow in workflows], k=size)
        for flow, key in zip(flows, rng.choices(list(keys), list(keys.values()), k=size), strict=True):
            asked = _in_sandbox(flow, sandbox) if key.shape.sandbox else flow
            always = "suspended" if party.suspended_us is not None and start >= party.suspended_us else ""
            if key.revoked_us is not None and start >= key.revoked_us:
                always = "revoked"
            deck.append(self._run(rng, party, asked, key, {always: 1} if always else fates, cards.get(asked.model.id)))
        return _Stretch(start, deck, sum(len(run.steps) for run in deck) / size)

    def _run(
        self, rng: Random, party: Party, flow: Workflow, key: KeyOfClient, fates: Fates, card: RateCard | None
    ) -> Run:
        def make(fate: str) -> Template:
            client = party.client
            return template(rng, flow, client.pk, client.markup_bp, key, fate, card, self._encode)

        steps: list[tuple[int, Template]] = []
        offset = 0
        for fate in rng.choices(list(fates), list(fates.values()), k=rng.randint(1, flow.steps)):
            chosen = make("ok" if fate in _PROVIDERS_OWN and not flow.model.prices else fate)
            steps.append((offset, chosen))
            if chosen.last:
                break
            offset += chosen.latency_us + int(rng.uniform(0.05, 4) * SECOND) + _JITTER & ~1
        return Run(tuple(steps), None if party.shape.daily_share is None else make("spent"))


_PROVIDERS_OWN: Final = frozenset({"rejected", "broken", "failed", "throttled"})  # the sandbox does none of these


def _workflows(rng: Random, party: Party, world: World) -> list[Workflow]:
    shape, made = party.shape, []
    names = rng.sample(WORKFLOWS, len(WORKFLOWS))
    for number in range(shape.workflows):
        again, place = divmod(number, len(names))
        model = world.models[rng.choices(list(shape.models), list(shape.models.values()))[0]]
        embeds = "embed" in model.shape.name
        endpoint: Speech = "embeddings" if embeds else rng.choices(list(shape.speech), list(shape.speech.values()))[0]
        made.append(
            Workflow(
                name=names[place] + (f"-v{again + 1}" if again else ""),
                weight=1 / (number + 1.5),
                model=model,
                endpoint=endpoint,
                stream=not embeds and rng.random() < (0.7 if shape.users else 0.25),
                input_tokens=int(rng.lognormvariate(7.6, 0.8)),
                output_tokens=int(rng.lognormvariate(5.6, 0.6)),
                cached=rng.uniform(0.4, 0.9) if not embeds and rng.random() < 0.6 else 0.0,
                steps=rng.choice((1, 1, 2, 2, 3, 4)),
            )
        )
    return made


def _in_sandbox(flow: Workflow, sandbox: PricedModel) -> Workflow:
    return Workflow(flow.name, flow.weight, sandbox, "chat/completions", flow.stream, flow.input_tokens, 40, 0.0, 1)
