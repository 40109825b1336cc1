"""A WhatsApp session: one end user of the client, 24 hours from the first call, kept as a keyed digest only."""

import asyncio

import pytest

from tests.callers import exchange, request_bytes
from tests.e2e.conftest import House

USER = "+49-170-canary-session"


def test_the_session_is_taken_from_tag_metadata_safety_identifier_user_in_that_order(house: House) -> None:
    everything = {
        "headers": {"x-gateway-tags": "session=by-tag"},
        "metadata": {"session": "by-metadata"},
        "safety_identifier": "by-safety",
        "user": "by-user",
    }
    names = ["by-tag", "by-metadata", "by-safety", "by-user"]
    single = [
        {"headers": {"x-gateway-tags": "session=by-tag"}},
        {"metadata": {"session": "by-metadata"}},
        {"safety_identifier": "by-safety"},
        {"user": "by-user"},
    ]
    caller = house.account("sessions=100/day")
    for number in range(4):
        members = dict(list(everything.items())[number:])
        assert caller.call(**members).status == 200
        assert caller.call(**single[number]).status == 200
    records = caller.records(8)
    for number, name in enumerate(names):
        together, alone = records[2 * number : 2 * number + 2]
        assert together["session"] == alone["session"], name
        assert (together["session_opened"], alone["session_opened"]) == (1, 0)
    assert len({record["session"] for record in records}) == 4


def test_the_same_session_within_24_hours_counts_once_and_one_user_more_than_the_limit_is_refused(
    house: House,
) -> None:
    caller = house.account("sessions=2/day")
    users = ["anna", "anna", "ben", "anna", "ben", "carl", "anna", None]
    codes = [caller.call(**({"user": user} if user else {})).code for user in users]
    assert codes == ["", "", "", "", "", "insufficient_quota", "", ""]
    assert sum(record["session_opened"] for record in caller.records(8)) == 2


@pytest.mark.parametrize("model", ["sandbox", "gpt-4o-mini"])
def test_concurrent_opens_of_one_session_count_once(house: House, model: str) -> None:
    caller = house.account("sessions=1/day")
    replies = caller.calls_at_once(100, model, user="anna")
    assert {reply.status for reply in replies} == {200}
    assert sum(record["session_opened"] for record in caller.records(100)) == 1
    assert caller.call(user="ben").code == "insufficient_quota"


def test_two_clients_users_of_one_name_are_two_sessions(house: House) -> None:
    one, other = house.account(), house.account()
    one.call(user="anna")
    other.call(user="anna")
    assert one.records(1)[0]["session"] != other.records(1)[0]["session"]


def test_only_a_digest_is_kept(house: House) -> None:
    caller = house.account()
    caller.call(headers={"x-gateway-tags": f"session={USER}"})
    caller.call(user=USER, stream=True)
    refused = asyncio.run(
        exchange(
            caller.installation.port,
            request_bytes("POST", "/v1/chat/completions", caller.key, b'{"model":"no","user":"%b"}' % USER.encode()),
        )
    )
    assert refused.status == 404
    digests = {record["session"] for record in caller.records(3)}
    assert len(digests) == 1
    assert len(digests.pop()) == 32
    for path in house.installation.data_dir.rglob("*"):
        if path.is_file():
            assert USER.encode() not in path.read_bytes(), path
