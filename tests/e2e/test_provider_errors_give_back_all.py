"""A provider's error gives back all that the call held: it consumes nothing of any limit."""

import pytest

from tests.e2e.conftest import RATES, House
from tests.installation import until
from tests.stub.provider import Behaviour

FAULTS = {
    "limited": (Behaviour(status=429, headers=(("retry-after", "7"),)), 429),
    "failing": (Behaviour(status=503), 502),
    "refusing our credential": (Behaviour(status=401), 502),
    "gone before a byte": (Behaviour(cut="reset"), 502),
    "silent": (Behaviour(cut="stall"), 504),
    "gone in the middle of a JSON answer": (Behaviour(cut="reset", cut_half=True), 502),
    "talking HTML": (Behaviour(body=b"<html>oops</html>", content_type="text/html"), 502),
}


@pytest.fixture(scope="session")
def impatient(shared: House) -> str:
    """A model of the same stub, whose provider must show its first byte within a second."""
    shared.installation.provider(
        shared.stub.url, {"impatient": RATES}, name="impatient", first_byte_timeout=1, idle_timeout=1
    )
    until(lambda: "impatient" in shared.watcher.models().body.decode(), 10, "the model")
    return "impatient"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_exactly_n_succeed_afterwards(house: House, impatient: str, fault: str, *, stream: bool) -> None:
    behaviour, status = FAULTS[fault]
    if stream and fault.startswith("gone in the middle"):
        behaviour = Behaviour(cut="reset", cut_at=10)  # not one whole event, so nothing went out
    caller = house.account("requests=4/day", "tokens=4000/day", "credits=1/day", "sessions=1/day")
    house.stub.script(*[behaviour] * 12)  # a reused connection that breaks before a byte is tried once more
    count = 6 if status != 504 else 3
    failed = caller.calls_at_once(count, impatient, stream=stream, max_tokens=20, user="anna")
    failed = [reply for reply in failed if reply.code != "rate_limit_exceeded" or status == 429]
    assert {reply.status for reply in failed} == {status}
    house.stub.clear()
    assert caller.models().left == 4
    assert int(caller.models().headers["x-ratelimit-remaining-tokens"]) == 4000
    # Not even the WhatsApp session was counted: another user may have it.
    assert [caller.call(impatient, max_tokens=20, user="ben").status for _ in range(5)] == [200] * 4 + [429]
    counted = [record for record in caller.records(count + 5) if record["outcome"] not in ("refused", "upstream_error")]
    assert [record["outcome"] for record in counted] == ["ok"] * 4
    assert [record["session_opened"] for record in counted] == [1, 0, 0, 0]


def test_the_providers_own_4xx_counts_as_a_request_of_no_tokens(house: House) -> None:
    caller = house.account("requests=2/day", "tokens=1000/day")
    rejected = caller.call("stub-400")
    assert rejected.status == 400
    assert rejected.left == 1
    assert rejected.headers["x-ratelimit-remaining-tokens"] == "1000"
    (record,) = caller.records(1)
    assert (record["outcome"], record["status"], record["charge"]) == ("rejected", 400, 0)
