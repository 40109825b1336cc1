"""What a limit of N must let through is exactly N, at any concurrency, and a refused call consumes nothing."""

import pytest

from tests.e2e.conftest import House
from tests.installation import until


@pytest.mark.parametrize("model", ["sandbox", "gpt-4o-mini"])
def test_200_callers_at_once_get_exactly_100(house: House, model: str) -> None:
    for _ in range(3):
        caller = house.account("requests=100/day")
        replies = caller.calls_at_once(200, model)
        # A call that only calls in flight hold up is told to come back, and then gets what the others left.
        served = [reply for reply in replies if reply.status == 200]
        while any(reply.code == "rate_limit_exceeded" for reply in replies):
            replies = caller.calls_at_once(sum(reply.code == "rate_limit_exceeded" for reply in replies), model)
            served += [reply for reply in replies if reply.status == 200]
        assert len(served) == 100
        assert len({reply.id for reply in served}) == 100
        assert caller.models().left == 0


def test_the_rest_is_told_not_to_retry_and_which_limit_what_is_left_and_when_it_resets(house: House) -> None:
    caller = house.account("requests=5/day", "tokens=1000000/month", time_zone="Europe/Berlin")
    caller.calls_at_once(5)
    refused = caller.call()
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    assert refused.error["type"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    message = refused.error["message"]
    assert "5 requests per day" in message
    assert "0 requests left" in message
    assert "It resets at 20" in message
    assert "00:00 (Europe/Berlin)" in message


def test_refused_calls_consume_nothing_and_are_on_record_as_refused(house: House) -> None:
    caller = house.account("requests=3/day", "tokens=100000/day")
    replies = [caller.call() for _ in range(6)]
    assert [reply.status for reply in replies] == [200] * 3 + [429] * 3
    records = caller.records(6)
    assert [record["outcome"] for record in records] == ["ok"] * 3 + ["refused"] * 3
    for record in records[3:]:
        assert record["error_code"] == "insufficient_quota"
        assert record["status"] == 429
        assert record["charge"] == record["cost"] == record["input_tokens"] == record["output_tokens"] == 0
        assert record["model_asked"] == "sandbox"
    tokens = sum(record["input_tokens"] + record["output_tokens"] for record in records)
    assert int(caller.models().headers["x-ratelimit-remaining-tokens"]) == 100_000 - tokens


def test_a_raised_limit_lets_through_exactly_the_difference(house: House) -> None:
    caller = house.account("requests=2/total")
    assert [caller.call().status for _ in range(3)] == [200, 200, 429]
    house.installation.python(
        f"from clients.models import Limit; Limit.objects.filter(client_id={caller.id}).update(amount=4)"
    )
    until(lambda: caller.models().headers["x-ratelimit-limit-requests"] == "4", 10, "the new limit")
    assert caller.models().left == 2
    assert [caller.call().status for _ in range(3)] == [200, 200, 429]


def test_models_answer_while_the_client_is_over_its_budget(house: House) -> None:
    caller = house.account("requests=1/day")
    caller.call()
    assert caller.call().status == 429
    listed = caller.models()
    assert listed.status == 200
    assert "sandbox" in {model["id"] for model in listed.json()["data"]}


def test_limit_headers_are_on_every_answer(house: House) -> None:
    caller = house.account("requests=10/day", "tokens=100000/hour")
    answers = [
        caller.call(),
        caller.call(stream=True),
        caller.call(model="gpt-99"),
        caller.call(max_tokens="many"),
        caller.call(model="stub-500"),
        caller.call(path="embeddings", model="sandbox-embedding"),
        caller.models(),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 400, 502, 200, 200]
    # Of a stream the headers go out while it is in flight; the failed calls consumed nothing.
    assert [answer.left for answer in answers] == [9, 8, 8, 8, 8, 7, 7]
    for answer in answers:
        assert answer.headers["x-ratelimit-limit-requests"] == "10"
        assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
        assert len(answer.id) == 32
