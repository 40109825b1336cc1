"""A key may have limits of its own: exact like its client's, which hold beside them."""

from tests.callers import Account
from tests.e2e.conftest import House
from tests.installation import until


def second_key(caller: Account, *limits: str) -> Account:
    """One more key of the same client, with limits of its own, and its automations."""
    key = caller.installation.key(caller.name, name="staging", limits=limits)
    another = Account(caller.installation, caller.name, caller.id, key)
    until(lambda: another.models().status == 200, 10, "the second key")
    return another


def set_limit(caller: Account, text: str) -> None:
    """Give the first key of the client a limit, or another amount."""
    caller.installation.python(
        f"""
from clients.limits import parse_limit
from keys.models import APIKey, KeyLimit
metric, amount, cycle = parse_limit({text!r})
key = APIKey.objects.filter(client_id={caller.id}).earliest("pk")
KeyLimit.objects.update_or_create(key=key, metric=metric, cycle=cycle, defaults={{"amount": amount}})
"""
    )


def served(caller: Account, count: int) -> int:
    """How many of `count` calls at once are served; those that only calls in flight hold up are tried again."""
    replies = caller.calls_at_once(count)
    done = sum(reply.status == 200 for reply in replies)
    while held := sum(reply.code == "rate_limit_exceeded" for reply in replies):
        replies = caller.calls_at_once(held)
        done += sum(reply.status == 200 for reply in replies)
    return done


def test_it_lets_through_exactly_n_and_other_keys_do_not_notice(house: House) -> None:
    production = house.account("requests=100/day")
    staging = second_key(production, "requests=7/day")
    assert served(staging, 30) == 7
    refused = staging.call()
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    assert "7 requests per day of this key" in refused.error["message"]
    assert (staging.models().headers["x-ratelimit-limit-requests"], staging.models().left) == ("7", 0)
    assert (production.models().headers["x-ratelimit-limit-requests"], production.models().left) == ("100", 93)
    assert served(production, 10) == 10


def test_the_limits_of_the_client_hold_for_all_its_keys_together(house: House) -> None:
    production = house.account("requests=10/day")
    staging = second_key(production, "requests=7/day")
    assert served(production, 6) == 6
    assert served(staging, 20) == 4
    refused = staging.call()
    assert "10 requests per day" in refused.error["message"]
    assert "of this key" not in refused.error["message"]


def test_a_new_limit_knows_what_the_key_has_used_and_a_raised_one_gives_the_difference(house: House) -> None:
    caller = house.account()
    other = second_key(caller)
    for account, count in ((caller, 3), (other, 4)):
        assert served(account, count) == count
    set_limit(caller, "requests=5/month")
    until(lambda: caller.models().headers.get("x-ratelimit-limit-requests") == "5", 10, "the limit")
    assert caller.models().left == 2
    assert served(caller, 4) == 2
    assert "x-ratelimit-limit-requests" not in other.models().headers
    set_limit(caller, "requests=6/month")
    until(lambda: caller.models().headers["x-ratelimit-limit-requests"] == "6", 10, "the new limit")
    assert served(caller, 3) == 1


def test_money_and_tokens_of_a_key_are_limited_too(house: House) -> None:
    caller = house.account()
    poor = second_key(caller, "credits=0.00001/total", "tokens=1000000/day")
    statuses = [poor.call("gpt-4o-mini", max_tokens=10).status for _ in range(12)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert caller.call("gpt-4o-mini", max_tokens=10).status == 200
    caller.records(13)
    spent = caller.installation.sql(
        "SELECT SUM(charge) AS charge FROM usage_usagerecord WHERE client_id = ? AND key_id = "
        "(SELECT MAX(id) FROM keys_apikey WHERE client_id = ?)",
        caller.id,
        caller.id,
    )
    assert 0 < spent[0]["charge"] <= 10_000_000
