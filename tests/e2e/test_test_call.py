"""The button beside a new key: a call as the client makes it, through the gateway, with its cost from the record."""

from tests.e2e.conftest import House


def test_a_test_call_shows_the_answer_and_what_it_cost(house: House) -> None:
    caller = house.account("requests=2/day")
    make = "from usage.test_call import make; o = make({key!r}, {model!r}); result = "
    told = house.installation.python(
        make.format(key=caller.key, model="gpt-4o-mini")
        + "[o.ok, o.text, o.status, o.record.cost, o.record.client_id, o.record.input_tokens]"
    )
    assert told[0] is True
    assert told[1]
    assert told[3] == told[5] * 150_000 + caller.records(1)[0]["output_tokens"] * 600_000 > 0
    assert told[4] == caller.id


def test_a_refused_test_call_says_why(house: House) -> None:
    caller = house.account("requests=0/day")
    told = house.installation.python(
        f"from usage.test_call import make; o = make({caller.key!r}, 'sandbox'); result = [o.ok, o.text, o.status]"
    )
    assert (told[0], told[2]) == (False, 429)
    assert "0 requests per day" in told[1]
