"""Twenty wrong keys a minute from one address get 429 for further wrong ones; no right key behind it suffers."""

from collections.abc import Callable

from keys import tokens
from tests.callers import account, at_once, request_bytes
from tests.installation import Installation


def test_further_wrong_keys_are_429_and_right_ones_work(install: Callable[..., Installation]) -> None:
    installation = install().start(ingest=False)
    caller = account(installation)
    assert caller.call().status == 200
    statuses = []
    for number in range(30):
        key = tokens.generate() if number % 2 else "sk-not-a-key"
        (reply,) = at_once(installation.port, [request_bytes("GET", "/v1/models", key)])
        statuses.append(reply.status)
        assert caller.call().status == 200
        if reply.status == 429:
            assert 1 <= int(reply.headers["retry-after"]) <= 60
            assert reply.code == "rate_limit_exceeded"
    assert statuses == [401] * 20 + [429] * 10
    assert installation.metric("gateway_wrong_keys_total") == 30, "malformed and unknown ones alike"
