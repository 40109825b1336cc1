"""How limits stand, from the gateway to the back office alone."""

import asyncio

from tests.callers import exchange
from tests.e2e.conftest import House
from tests.e2e.test_limits_of_a_key import second_key, served
from tests.installation import until


def test_the_back_office_is_told_what_is_used_and_nobody_else_is(house: House) -> None:
    caller = house.account("requests=5/day")
    caller.calls_at_once(2)
    told = house.installation.python(
        f"from clients.models import Client; from usage.standings import of_client; "
        f"result = [[s.spent, s.held, s.words['left']] for s in of_client(Client.objects.get(pk={caller.id}))]"
    )
    assert told == [[2, 0, "3 requests"]]
    caller.calls_at_once(2)
    asked = (
        "from clients.models import Client; from usage.standings import closest; "
        "found = closest(Client.objects.all()); result = [[s.limit.client_id, s.spent] for s in found or ()]"
    )
    told = until(lambda: house.installation.python(asked), 10, "an answer within the half second that a page waits")
    assert [caller.id, 4] in told
    for line in ("", "authorization: Bearer wrong\r\n", f"authorization: Bearer {caller.key}\r\n"):
        request = f"GET /standings?percent=0 HTTP/1.1\r\nhost: 127.0.0.1\r\n{line}\r\n".encode()
        reply = asyncio.run(exchange(house.installation.port, request))
        assert reply.status in (404, 503)  # what the back office says, where there is one
        assert b"[" not in reply.body


def test_the_back_office_is_told_how_a_keys_own_limits_stand(house: House) -> None:
    production = house.account("requests=100/day")
    staging = second_key(production, "requests=7/day")
    assert served(staging, 2) == 2
    assert served(production, 1) == 1
    told = house.installation.python(
        f"from keys.lifecycle import find; from usage.standings import of_key; "
        f"result = [[[s.spent, s.words['left']] for s in of_key(find(key))] for key in {[staging.key, production.key]}]"
    )
    assert told == [[[2, "5 requests"]], []]
