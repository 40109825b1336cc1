"""A minute's limit never lets twice its amount through around a boundary, and says when to come back."""

import time

from tests.e2e.conftest import House


def test_a_spent_minute_is_rate_limit_exceeded_with_the_seconds_to_wait(house: House) -> None:
    caller = house.account("requests=3/minute")
    started = time.monotonic()
    assert [caller.call().status for _ in range(3)] == [200] * 3
    refused = caller.call()
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert 55 <= int(refused.headers["retry-after"]) <= 61
    assert "3 requests per minute" in refused.error["message"]
    # Over any boundary of a clock's second or minute that falls into these seconds, nothing comes back.
    while time.monotonic() - started < 2.5:
        assert caller.call().status == 429
    assert caller.models().left == 0


def test_exactly_the_minutes_amount_at_any_concurrency(house: House) -> None:
    caller = house.account("requests=20/minute")
    replies = caller.calls_at_once(60)
    served = sum(reply.status == 200 for reply in replies)
    while served < 20:
        reply = caller.call()
        assert reply.code in ("", "rate_limit_exceeded")
        served += reply.status == 200
    assert [caller.call().status for _ in range(3)] == [429] * 3
    assert sum(record["outcome"] == "ok" for record in caller.records(60)) == 20
