"""Promise 2: with max_tokens given no budget is overspent; without it, by what was in flight at most."""

import json
import random
import threading

import openai
import pytest

from tests.callers import Reply, at_once, request_bytes
from tests.e2e.conftest import House
from tests.stub.provider import Behaviour

PRICE = {"input": 1_000, "output": 3_000}
EXPECTED_OUTPUT = 1_000  # what the gateway expects of a call whose output nobody bounded


@pytest.fixture(scope="session")
def priced(shared: House) -> str:
    return shared.model("priced", PRICE)


def _answers(random_: random.Random, count: int, highest_input: int, highest_output: int) -> list[Behaviour]:
    return [
        Behaviour(
            input_tokens=random_.randint(1, highest_input),
            output_tokens=random_.randint(0, highest_output),
            delay=random_.random() * 0.05,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_with_max_tokens_the_sum_of_charges_never_exceeds_the_limit(house: House, priced: str, *, stream: bool) -> None:
    credits, tokens = 3_000_000, 900  # picodollars of charge, and tokens: both are soon used up
    caller = house.account("credits=0.000003/day", f"tokens={tokens}/day", markup_bp=2_500)
    request = caller.request(priced, max_tokens=50, stream=stream)
    # A prompt's tokens are counted before anybody is refused, and a provider that counts as we do takes no more.
    prompt = house.account().call("sandbox", max_tokens=50).json()["usage"]["prompt_tokens"]
    port, random_ = caller.installation.port, random.Random(20261123)
    replies: list[Reply] = []
    for _ in range(3):
        house.stub.script(*_answers(random_, 100, prompt, 50))
        replies += at_once(port, [request] * 100)
        house.stub.clear()
    # Then one by one, so that nothing in flight stands in the way, until one is refused: what is left is in truth less
    # than that call may need.
    while not replies[300:] or not replies[-1].code:
        house.stub.script(*_answers(random_, 1, prompt, 50))
        replies += at_once(port, [request])
    house.stub.clear()
    assert replies[-1].code == "insufficient_quota"
    assert {reply.code for reply in replies} <= {"", "rate_limit_exceeded", "insufficient_quota"}

    rows = [record for record in caller.records(len(replies)) if record["outcome"] == "ok"]
    assert len(rows) == sum(reply.status == 200 for reply in replies)
    spent = sum(record["charge"] for record in rows)
    used = sum(record["input_tokens"] + record["output_tokens"] for record in rows)
    assert spent <= credits
    assert used <= tokens
    most = (prompt * PRICE["input"] + 50 * PRICE["output"]) * 5 // 4
    assert credits - spent < most or tokens - used < prompt + 50


def test_without_max_tokens_only_calls_in_flight_overshoot_and_the_next_is_refused(house: House, priced: str) -> None:
    caller = house.account("tokens=5000/day")
    house.stub.script(*[Behaviour(input_tokens=20, output_tokens=4_000, delay=0.3)] * 20)
    replies = caller.calls_at_once(20, priced)
    served = sum(reply.status == 200 for reply in replies)
    assert {reply.code for reply in replies if reply.status != 200} == {"rate_limit_exceeded"}
    # Each reserves its estimate, the last one what remains.
    assert served == -(-5000 // (EXPECTED_OUTPUT + len(caller.request(priced).partition(b"\r\n\r\n")[2]) // 4))
    house.stub.clear()
    refused = caller.call(priced)
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    spent = sum(record["input_tokens"] + record["output_tokens"] for record in caller.records(21))
    assert spent == served * 4_020
    assert spent - 5000 <= served * (4_020 - EXPECTED_OUTPUT)


def test_a_call_without_max_tokens_is_admitted_while_anything_is_left(house: House, priced: str) -> None:
    caller = house.account("tokens=1/day")
    assert caller.call(priced).status == 200
    assert caller.call(priced).code == "insufficient_quota"


def test_nobody_is_refused_for_a_guess(house: House, priced: str) -> None:
    """The prompt's bytes exceed the limit, its tokens fit: it is counted exactly, and admitted."""
    caller = house.account("tokens=1000/day")
    text = "international " * 300  # 4,200 bytes, a token a word
    house.stub.script(Behaviour(input_tokens=310, output_tokens=5))
    assert caller.call(priced, text, max_tokens=50).status == 200
    assert house.stub.calls
    (record,) = caller.records(1)
    assert record["input_tokens"] == 310


def test_pictures_do_not_undo_max_tokens(house: House, priced: str) -> None:
    """A picture's tokens can only be estimated; the output is bounded nevertheless, and held in full."""
    caller = house.account("tokens=20000/day")
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"model": priced, "max_tokens": 9_000, "messages": [{"role": "user", "content": [picture]}]}
    request = request_bytes("POST", "/v1/chat/completions", caller.key, json.dumps(body).encode())
    house.stub.script(*[Behaviour(input_tokens=20, output_tokens=9_000, delay=0.3)] * 10)
    replies = at_once(caller.installation.port, [request] * 10)
    assert {reply.code for reply in replies if reply.status != 200} == {"rate_limit_exceeded"}
    assert sum(reply.status == 200 for reply in replies) == 2


def test_a_prompt_of_more_than_a_million_characters_is_counted_and_admitted(house: House, priced: str) -> None:
    caller = house.account("tokens=250000/day")
    house.stub.script(Behaviour(input_tokens=210_010, output_tokens=5))
    assert caller.call(priced, "lorem ipsum dolor " * 70_000, max_tokens=50).status == 200


def test_a_large_prompt_is_counted_off_the_event_loop_and_admitted(house: House, priced: str) -> None:
    caller = house.account("tokens=60000/day")
    house.stub.script(Behaviour(input_tokens=20_010, output_tokens=5))
    assert caller.call(priced, "international " * 20_000, max_tokens=50).status == 200


def test_too_large_is_told_what_would_fit(house: House, priced: str) -> None:
    caller = house.account("tokens=1000/day")
    refused = caller.call(priced, "Hi", max_tokens=5_000)
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    assert refused.headers["x-should-retry"] == "false"
    message = refused.error["message"]
    assert "1,000 tokens per day" in message
    assert "at most 1,000 tokens would fit" in message
    assert not house.stub.calls, "a refused call never reaches the provider"
    assert caller.call(priced, "Hi", max_tokens=900).status == 200


def test_only_calls_in_flight_in_the_way_means_retry_in_a_second(house: House, priced: str) -> None:
    caller = house.account("tokens=1000/day")
    house.stub.script(Behaviour(input_tokens=5, output_tokens=5, delay=0.5))
    first, second = at_once(
        caller.installation.port,
        [caller.request(priced, "Hi", max_tokens=800), caller.request(priced, "Ho", max_tokens=800)],
    )
    assert sorted((first.code, second.code)) == ["", "rate_limit_exceeded"]
    held = first if first.code else second
    assert held.headers["retry-after"] == "1"
    assert "x-should-retry" not in held.headers
    assert caller.call(priced, "Hi", max_tokens=800).status == 200


def _official(house: House, key: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{house.installation.url}/v1", max_retries=2)


def test_the_official_client_does_not_retry_a_spent_budget(house: House) -> None:
    caller = house.account("requests=1/day")
    client = _official(house, caller.key)
    asked = [{"role": "user", "content": "Hi"}]
    client.chat.completions.create(model="sandbox", messages=asked)  # type: ignore[arg-type]
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="sandbox", messages=asked)  # type: ignore[arg-type]
    assert caught.value.code == "insufficient_quota"
    refused = [record for record in caller.records(2) if record["outcome"] == "refused"]
    assert len(refused) == 1


def test_the_official_client_retries_a_held_call_and_gets_through(house: House, priced: str) -> None:
    caller = house.account("tokens=1000/day")
    house.stub.script(Behaviour(input_tokens=5, output_tokens=5, delay=0.7))
    in_flight = threading.Thread(target=caller.call, args=(priced,), kwargs={"max_tokens": 900})
    in_flight.start()
    house.stub.wait_calls(1)
    answer = _official(house, caller.key).chat.completions.create(
        model=priced,
        messages=[{"role": "user", "content": "Hi"}],
        max_tokens=900,
    )
    in_flight.join()
    assert answer.choices[0].message.content
    outcomes = sorted(record["outcome"] for record in caller.records(3))
    assert outcomes == ["ok", "ok", "refused"]


def test_every_name_of_max_tokens_bounds_the_call(house: House, priced: str) -> None:
    for path, name in (
        ("chat/completions", "max_tokens"),
        ("chat/completions", "max_completion_tokens"),
        ("completions", "max_tokens"),
        ("responses", "max_output_tokens"),
    ):
        caller = house.account("tokens=500/day")
        refused = caller.call(priced, path=path, **{name: 501})
        assert refused.code == "insufficient_quota", (path, name)
        assert "too_large" not in json.dumps(refused.error)
        assert caller.call(priced, path=path, **{name: 100}).status == 200
