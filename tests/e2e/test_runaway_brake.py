"""A workflow that loops is braked; the client's others, and its budget, are not touched."""

from functools import partial

from tests.callers import Account
from tests.e2e.conftest import House
from tests.installation import until


def test_a_looping_workflow_is_stopped_and_everything_else_goes_on(house: House) -> None:
    caller = house.account("requests=100/day", brake_per_minute=3, brake_action="stop")
    looping = {"x-gateway-tags": "workflow=loop"}
    answers = [caller.call(headers=looping) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 3
    error = answers[-1].json()["error"]
    assert (error["code"], error["type"]) == ("runaway_brake", "rate_limit_error")
    assert "'loop'" in error["message"]
    assert answers[-1].headers["retry-after"] == "300"
    assert caller.call(headers={"x-gateway-tags": "workflow=other"}).status == 200
    assert caller.call().status == 200
    records = caller.records(8)
    assert [record["error_code"] for record in records if record["outcome"] == "refused"] == ["runaway_brake"] * 3
    assert sum(record["outcome"] == "ok" for record in records) == 5


def test_the_brake_holds_within_a_second_of_being_set_and_lets_go_when_it_is_taken_off(house: House) -> None:
    caller = house.account()
    looping = {"x-gateway-tags": "workflow=loop"}
    assert {caller.call(headers=looping).status for _ in range(5)} == {200}
    for brake, expected in ((1, 429), (None, 200)):
        house.installation.python(
            f"from clients.models import Client; Client.objects.filter(pk={caller.id}).update(brake_per_minute={brake})"
        )
        until(partial(_answers, caller, looping, expected), seconds=2)


def test_what_was_learned_of_a_workflow_brakes_it_and_nothing_else(house: House) -> None:
    caller = house.account(brake_times=2)
    known, new = ({"x-gateway-tags": f"workflow={name}"} for name in ("known", "new"))
    house.installation.python(
        "from django.utils import timezone; from usage.models import UsualPace; "
        f"UsualPace.objects.create(client_id={caller.id}, workflows={{'known': 16}}, learned_at=timezone.now())"
    )
    until(partial(_answers, caller, known, 429), seconds=10)
    assert "more than 32 times a minute" in caller.call(headers=known).json()["error"]["message"]
    assert {caller.call(headers=new).status for _ in range(40)} == {200}


def _answers(caller: Account, headers: dict[str, str], status: int) -> bool:
    return caller.call(headers=headers).status == status
