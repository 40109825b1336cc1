"""A WhatsApp session whose first call came to nothing is its next call's, even if the gateway is killed right then."""

import contextlib
import signal
import threading
from collections.abc import Callable

from tests.callers import Account, account
from tests.e2e.conftest import RATES
from tests.installation import Installation, until
from tests.stub.behaviour import Behaviour
from tests.stub.provider import StubProvider


def test_the_heir_of_a_session_is_killed(install: Callable[..., Installation]) -> None:
    with StubProvider() as stub:
        installation = install()
        installation.provider(stub.url, {"gpt-4o-mini": RATES})
        installation.start()
        caller = account(installation, "sessions=1/month")
        stub.script(Behaviour(status=500, hold=0), Behaviour(cut="stall"))
        replies = []
        opener = threading.Thread(target=lambda: replies.append(caller.call("gpt-4o-mini", user="anna")))
        opener.start()
        stub.wait_calls(1)
        heir = threading.Thread(target=_call_that_breaks, args=(caller,))
        heir.start()
        stub.wait_calls(2)
        stub.release()
        opener.join(10)
        assert replies[0].status == 502
        installation.stop_gateway(signal.SIGKILL)
        heir.join(10)
        installation.start_gateway()
        until(lambda: len(caller.recorded()) == 2, what="both on record")
        opened = {record["outcome"]: record["session_opened"] for record in caller.recorded()}
        assert opened == {"upstream_error": 0, "interrupted": 1}
        assert caller.call(user="anna").status == 200
        assert caller.call(user="ben").code == "insufficient_quota"


def _call_that_breaks(caller: Account) -> None:
    with contextlib.suppress(ConnectionError):
        caller.call("gpt-4o-mini", user="anna")
