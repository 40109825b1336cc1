"""The runaway brake: what calls at a usual rate is never touched, what loops is slowed to the rate or stopped."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.brake import MOST, QUIET, Brake, BrakeRule

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = 1_763_900_000_000_000


def passes(brake: Brake, rule: BrakeRule, at: int, workflow: str | None = "flow", session: str | None = None) -> bool:
    return brake.check(rule, 1, session, workflow, at) is None


@given(st.integers(1, 40), st.integers(0, MINUTE), st.integers(1, 10))
def test_a_workflow_at_an_even_pace_below_its_rate_is_never_refused(rate: int, offset: int, minutes: int) -> None:
    brake, rule = Brake(), BrakeRule(rate, stops=True)
    pause = MINUTE // rate + MINUTE // (rate * 20)  # a twentieth below
    assert all(passes(brake, rule, NOW + offset + number * pause) for number in range(rate * minutes))


@given(st.integers(1, 30), st.lists(st.integers(1, 20 * SECOND), min_size=1, max_size=400))
def test_a_loop_is_slowed_to_the_rate_and_told_exactly_when_it_may_go_on(rate: int, pauses: list[int]) -> None:
    brake, rule = Brake(), BrakeRule(rate, stops=False)
    at, let_through = NOW, []
    for pause in pauses:
        at += pause
        refusal = brake.check(rule, 1, None, "flow", at)
        if refusal is None:
            let_through.append(at)
            continue
        assert (refusal.status, refusal.code) == (429, "runaway_brake")
        wait = int(dict(refusal.headers)[b"retry-after"])
        assert 1 <= wait <= 121
        at += wait * SECOND
        assert passes(brake, rule, at)  # an SDK that waits as told is served
        let_through.append(at)
    first = NOW + pauses[0]
    by_minute = [sum(1 for one in let_through if (one - first) // MINUTE == number) for number in range(30)]
    assert max(by_minute) <= rate


def test_ten_times_the_rate_lets_the_rate_through_minute_after_minute() -> None:
    brake, rule = Brake(), BrakeRule(60, stops=False)
    served = [sum(passes(brake, rule, NOW + minute * MINUTE + n * 100_000) for n in range(600)) for minute in range(10)]
    assert served[0] == 60
    assert all(25 <= one <= 60 for one in served)


def test_a_loop_that_is_stopped_stays_so_until_it_was_quiet_for_five_minutes() -> None:
    brake, rule = Brake(), BrakeRule(5, stops=True)
    assert [passes(brake, rule, NOW + n) for n in range(6)] == [True] * 5 + [False]
    at = NOW
    for _ in range(20):  # it goes on trying
        at += QUIET - SECOND
        assert not passes(brake, rule, at)
    assert passes(brake, rule, at + QUIET)


def test_other_workflows_other_users_other_clients_and_calls_without_tags_are_not_touched() -> None:
    brake, rule = Brake(), BrakeRule(1, stops=True)
    assert brake.check(rule, 1, "ana", "flow", NOW) is None
    assert brake.check(rule, 1, "ana", "flow", NOW + 1) is not None
    for client, session, workflow in [(1, None, "other"), (1, "ben", None), (2, "ana", "flow"), (1, None, None)]:
        assert brake.check(rule, client, session, workflow, NOW + 2) is None
    assert brake.check(rule, 1, None, None, NOW + 3) is None


def test_a_workflow_is_told_by_its_name_and_a_user_is_not() -> None:
    brake, rule = Brake(), BrakeRule(1, stops=False)
    brake.check(rule, 1, "digest-of-ana", "nightly", NOW)
    by_user = brake.check(rule, 1, "digest-of-ana", None, NOW + 1)
    by_workflow = brake.check(rule, 1, None, "nightly", NOW + 2)
    assert by_user is not None
    assert by_workflow is not None
    assert "ana" not in by_user.message
    assert "'nightly'" in by_workflow.message


def test_what_it_remembers_is_bounded() -> None:
    brake, rule = Brake(), BrakeRule(1, stops=True)
    for number in range(MOST + 1_000):
        assert passes(brake, rule, NOW + number, f"flow {number}")
    assert len(brake._paces) == MOST


def test_a_workflow_beyond_its_own_rate_is_braked_and_one_without_goes_by_the_common_one() -> None:
    brake, rule = Brake(), BrakeRule(None, stops=False, workflows={"bot": 3}, user=2)
    assert [passes(brake, rule, NOW + n, "bot") for n in range(5)] == [True] * 3 + [False] * 2
    assert all(passes(brake, rule, NOW + n, "new") for n in range(100))
    assert [passes(brake, rule, NOW + n, None, "ana") for n in range(3)] == [True, True, False]
    both = BrakeRule(2, stops=False, workflows={"bot": 3, "slow": 1})
    rates = [both.rate("workflow", "bot"), both.rate("workflow", "slow"), both.rate("workflow", "new")]
    assert rates == [2, 1, 2]
    assert both.rate("session", "ana") == 2
