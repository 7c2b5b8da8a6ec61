"""Rule 24: tasks. One vote, one person, one subject; levels of escalation; closing is one record."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import Escalate, Person, Role, Saga, end, scope, task
from orchestrator.kernel.api import advance
from orchestrator.kernel.inputs import Arrived, TimerDue, Vote
from orchestrator.testing import (
    APPROVE,
    REJECT,
    Spec,
    amended,
    arrived,
    asked,
    cancelled,
    compensated,
    decided,
    delegated,
    denied,
    elapsed,
    ended,
    escalated,
    given,
    opened,
    operated,
    stands_in,
    stuck,
)
from tests.kernel.trips import (
    HOLD_CAR,
    NOTE,
    NOTED,
    WANTED,
    TripChanged,
    TripToApprove,
    TripWanted,
    TripWithdrawn,
    approve,
    customer,
    hold_car,
    note,
    of,
    types,
)

PLAIN = Saga("tasks_plain", version=1, starts_on=TripWanted, flow=[approve, hold_car])
DAY = timedelta(hours=24)
WITHDRAWN = arrived(TripWithdrawn(trip="t-1"))


@task(to=Role("desk"), within=DAY, votes=2, exclude=[customer])
def approve_twice(wanted: TripWanted) -> TripToApprove:
    """Two people agree."""
    return TripToApprove(trip=wanted.trip)


TWICE = Saga("tasks_twice", version=1, starts_on=TripWanted, flow=[approve_twice, hold_car])


@task(
    to=Role("desk"),
    within=DAY,
    escalate=[Escalate(timedelta(hours=4), Role("lead")), Escalate(timedelta(hours=8), Person("boss"))],
)
def approve_soon(wanted: TripWanted) -> TripToApprove:
    """Somebody decides in the end."""
    return TripToApprove(trip=wanted.trip)


SOON = Saga("tasks_soon", version=1, starts_on=TripWanted, flow=[approve_soon.on_timeout(note), hold_car])


@task(to=Role("desk"), within=DAY)
def approve_changing(wanted: TripWanted, changed: TripChanged | None) -> TripToApprove:
    """What is shown follows the customer's changes."""
    return TripToApprove(trip=wanted.trip, note=changed.note if changed else "")


CHANGING = Saga(
    "tasks_changing", version=1, starts_on=TripWanted, flow=[approve_changing.amend_on(TripChanged), hold_car]
)


def hash_of(spec: Spec) -> str:
    """The hash of what is shown now."""
    [row] = spec.world.main.tasks.values()
    return str(row.data["hash"])


def test_a_task_shows_what_its_function_built() -> None:
    """Rule 24."""
    given(PLAIN, WANTED).then(opened(approve, TripToApprove(trip="t-1")))


def test_an_approval_goes_on_and_a_rejection_turns_back() -> None:
    """Rule 24."""
    given(PLAIN, WANTED).when(decided(approve, APPROVE, by="max")).then(asked(HOLD_CAR))
    given(PLAIN, WANTED).when(decided(approve, REJECT, by="max")).then(compensated("rejected by max"))


def test_a_decision_carries_person_time_reason_and_what_was_seen() -> None:
    """Rule 24, V21."""
    spec = given(PLAIN, WANTED)
    seen = hash_of(spec)
    spec.when(delegated(approve, by="mia", to="max"), decided(approve, APPROVE, by="max", reason="fine", roles=()))
    [vote] = [record.data["vote"] for record in of(spec, "task.voted")]
    assert (vote["by"], vote["reason"], vote["hash"], vote["on_behalf_of"]) == ("max", "fine", seen, "mia")
    assert vote["at"] == spec.world.clock


def test_a_vote_without_the_subjects_hash_is_refused() -> None:
    """Rule 24: a vote names what was seen."""
    spec = given(PLAIN, WANTED).when(decided(approve, APPROVE, by="max", seen="")).then(denied("subject_missing"))
    assert of(spec, "task.voted") == []


def test_a_vote_on_another_subject_is_refused() -> None:
    """Rule 24."""
    given(PLAIN, WANTED).when(decided(approve, APPROVE, by="max", seen="0" * 64)).then(denied("subject_changed"))


def test_a_changed_subject_is_an_amendment_and_voids_earlier_votes() -> None:
    """Rule 24: round + 1."""

    @task(to=Role("desk"), within=DAY, votes=2)
    def approve_both(wanted: TripWanted, changed: TripChanged | None) -> TripToApprove:
        return TripToApprove(trip=wanted.trip, note=changed.note if changed else "")

    saga = Saga("tasks_void", version=1, starts_on=TripWanted, flow=[approve_both.amend_on(TripChanged), hold_car])
    spec = given(saga, WANTED, decided(approve_both, APPROVE, by="max"))
    before = hash_of(spec)
    spec.when(arrived(TripChanged(trip="t-1", note="two beds"))).then(
        amended(approve_both, TripToApprove(trip="t-1", note="two beds"))
    )
    assert hash_of(spec) != before
    [row] = spec.world.main.tasks.values()
    assert (row.data["round"], row.data["votes"]) == (2, [])
    spec.when(decided(approve_both, APPROVE, by="mia", seen=before)).then(denied("subject_changed"))
    spec.when(decided(approve_both, APPROVE, by="mia")).then_nothing()
    spec.when(decided(approve_both, APPROVE, by="max")).then(asked(HOLD_CAR))


def test_a_task_can_be_amended_again_and_again() -> None:
    """Rule 24: its subscription stays."""
    spec = given(CHANGING, WANTED)
    for number in range(3):
        spec.when(arrived(TripChanged(trip="t-1", note=f"{number}"))).then(
            amended(approve_changing, TripToApprove(trip="t-1", note=f"{number}"))
        )
    spec.when(decided(approve_changing, APPROVE, by="max")).then(asked(HOLD_CAR))
    assert spec.world.main.subscriptions == []


def test_an_amendment_that_raises_lets_nobody_decide_until_it_was_retried() -> None:
    """Rule 12, rule 24: what is shown is not what it should be."""
    code = {"broken": True}

    @task(to=Role("desk"), within=DAY)
    def approve_carefully(wanted: TripWanted, changed: TripChanged | None) -> TripToApprove:
        if changed and code["broken"]:
            raise RuntimeError("cannot show that")
        return TripToApprove(trip=wanted.trip, note=changed.note if changed else "")

    saga = Saga("tasks_amend_raises", version=1, starts_on=TripWanted, flow=[approve_carefully.amend_on(TripChanged)])
    spec = given(saga, WANTED).when(arrived(TripChanged(trip="t-1", note="x"))).then(stuck(approve_carefully))
    code["broken"] = False
    spec.when(operated("retry", approve_carefully)).then(
        amended(approve_carefully, TripToApprove(trip="t-1", note="x"))
    )
    spec.when(decided(approve_carefully, APPROVE, by="max")).then(ended())


def test_a_vote_at_or_after_the_due_time_finds_the_task_expired() -> None:
    """Rule 24: whether or not its timer has fired."""
    spec = given(PLAIN, WANTED)
    [row] = spec.world.main.tasks.values()
    vote = Vote("approve", "max", ("desk",), {"outcome": "approve"}, row.data["hash"], row.due)
    turn = advance(PLAIN.program, spec.state, vote, row.due)
    assert turn.refusal is not None
    assert turn.refusal.code == "expired"
    assert turn.records[0].type == "task.expired"


def test_a_vote_received_in_time_counts_although_it_is_handled_late() -> None:
    """Rule 31: a decision counts by its receipt."""
    spec = given(PLAIN, WANTED)
    [row] = spec.world.main.tasks.values()
    vote = Vote("approve", "max", ("desk",), {"outcome": "approve"}, row.data["hash"], row.due - 1)
    turn = advance(PLAIN.program, spec.state, vote, row.due + 10**9)
    assert turn.refusal is None
    assert [record.type for record in turn.records[:2]] == ["task.voted", "task.decided"]


def test_an_undecided_task_expires() -> None:
    """Rule 24."""
    spec = given(PLAIN, WANTED).when(elapsed(hours=23)).then_nothing()
    spec.when(elapsed(hours=1)).then(compensated("nobody decided approve in time"))
    given(SOON, WANTED).when(elapsed(hours=24)).then(escalated(approve_soon), escalated(approve_soon), asked(NOTE))


def test_an_excluded_person_may_not_vote() -> None:
    """Rule 24: four eyes."""
    spec = given(TWICE, WANTED).when(decided(approve_twice, APPROVE, by="customer of t-1")).then(denied("excluded"))
    assert of(spec, "task.voted") == []


def test_nobody_votes_on_behalf_of_an_excluded_person() -> None:
    """Rule 24: that would be the excluded person's decision, however the two have arranged it."""
    away = [stands_in("customer of t-1", "desk")]
    vote = decided(approve_twice, APPROVE, by="max", on_behalf_of="customer of t-1", stands_in=away)
    given(TWICE, WANTED).when(vote).then(denied("excluded"))


def test_nobody_votes_twice() -> None:
    """Rule 24: refused without a record."""
    spec = given(TWICE, WANTED, decided(approve_twice, APPROVE, by="max"))
    before = types(spec)
    spec.when(decided(approve_twice, APPROVE, by="max")).then(denied("voted_already"))
    assert types(spec) == before


def test_so_many_distinct_people_must_agree() -> None:
    """Rule 24."""
    spec = given(TWICE, WANTED).when(decided(approve_twice, APPROVE, by="max")).then_nothing()
    spec.when(decided(approve_twice, APPROVE, by="mia")).then(asked(HOLD_CAR))
    assert len(spec.state.activities["approve_twice"].result["votes"]) == 2


def test_one_rejection_decides() -> None:
    """authoring: votes=n."""
    given(TWICE, WANTED, decided(approve_twice, APPROVE, by="max")).when(
        decided(approve_twice, REJECT, by="mia", reason="no budget")
    ).then(compensated("rejected by mia: no budget"))


def test_a_person_without_the_role_may_not_vote() -> None:
    """Rule 24, V21."""
    given(PLAIN, WANTED).when(decided(approve, APPROVE, by="max", roles=("kitchen",))).then(denied("not_eligible"))


def test_voters_of_an_earlier_task_may_be_excluded() -> None:
    """authoring: exclude=[task]."""

    @task(to=Role("desk"), within=DAY, exclude=[approve])
    def approve_again(wanted: TripWanted) -> TripToApprove:
        return TripToApprove(trip=wanted.trip)

    saga = Saga("tasks_eyes", version=1, starts_on=TripWanted, flow=[approve, approve_again, hold_car])
    spec = given(saga, WANTED, decided(approve, APPROVE, by="max"))
    spec.when(decided(approve_again, APPROVE, by="max")).then(denied("excluded"))
    spec.when(decided(approve_again, APPROVE, by="mia")).then(asked(HOLD_CAR))


def test_escalation_fires_level_by_level_each_once_in_order() -> None:
    """Rule 24."""
    spec = given(SOON, WANTED).when(elapsed(hours=3)).then_nothing()
    spec.when(elapsed(hours=1)).then(escalated(approve_soon))
    spec.when(decided(approve_soon, APPROVE, by="boss", roles=())).then(denied("not_eligible"))
    spec.when(elapsed(hours=4)).then(escalated(approve_soon))
    spec.when(decided(approve_soon, APPROVE, by="boss", roles=())).then(asked(HOLD_CAR))
    spec.when(elapsed(minutes=1))
    assert [record.data["level"] for record in of(spec, "task.escalated")] == [1, 2]


def test_those_who_were_asked_first_may_still_decide_after_an_escalation() -> None:
    """Rule 24: more people, not other people."""
    spec = given(SOON, WANTED, elapsed(hours=9))
    spec.when(decided(approve_soon, APPROVE, by="max", roles=("desk",))).then(asked(HOLD_CAR))


def test_levels_that_are_overdue_after_downtime_fire_in_order_before_the_expiry() -> None:
    """Rule 24: one timer comes, three things are due."""
    spec = given(SOON, WANTED)
    [timer] = spec.world.main.timers.values()

    turn = advance(SOON.program, spec.state, TimerDue(timer.activity, timer.armed), spec.world.clock + 90_000_000_000)
    kinds = [record.type for record in turn.records]
    assert kinds[:3] == ["task.escalated", "task.escalated", "task.expired"]
    assert [record.data["level"] for record in turn.records[:2]] == [1, 2]


def test_a_decided_task_escalates_no_more() -> None:
    """Rule 24, rule 5."""
    spec = given(SOON, WANTED, decided(approve_soon, APPROVE, by="max"))
    spec.when(elapsed(seconds=1))
    assert set(spec.world.main.timers) == {"hold_car"}


def test_closing_is_one_record_and_later_votes_are_refused() -> None:
    """Rule 24: decided, expired, withdrawn."""
    spec = given(PLAIN, WANTED, decided(approve, APPROVE, by="max"))
    spec.when(decided(approve, REJECT, by="mia")).then(denied("already_decided"))
    spec = given(SOON, WANTED, elapsed(hours=24))
    spec.when(decided(approve_soon, APPROVE, by="max")).then(denied("expired"))
    spec = given(PLAIN, WANTED, cancelled("ann", "enough"))
    spec.when(decided(approve, APPROVE, by="max")).then(denied("withdrawn"))


def test_no_vote_counts_while_the_saga_goes_back() -> None:
    """Section 7: vote while compensating."""
    body = scope(approve).on_event(TripWithdrawn, note)
    spec = given(Saga("tasks_back", version=1, starts_on=TripWanted, flow=[body]), WANTED, WITHDRAWN)
    spec.when(decided(approve, APPROVE, by="max")).then(denied("withdrawn"))
    spec.when(NOTED).then(ended())


def test_a_task_may_be_withdrawn_by_an_event_of_its_own() -> None:
    """authoring: on_event of a task is a scope around it."""
    flow = [approve.on_event(TripWithdrawn, end("withdrawn")), hold_car]
    saga = Saga("tasks_event", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED).when(WITHDRAWN).then(ended("withdrawn"))
    assert spec.world.main.tasks == {}


def test_a_task_is_put_to_the_people_that_a_function_names() -> None:
    """authoring: to= a function."""

    def owners(wanted: TripWanted) -> list[Person]:
        return [Person("mia"), Person("max")]

    @task(to=owners, within=DAY)
    def approve_mine(wanted: TripWanted) -> TripToApprove:
        return TripToApprove(trip=wanted.trip)

    saga = Saga("tasks_owners", version=1, starts_on=TripWanted, flow=[approve_mine, hold_car])
    given(saga, WANTED).when(decided(approve_mine, APPROVE, by="eve")).then(denied("not_eligible"))
    given(saga, WANTED).when(decided(approve_mine, APPROVE, by="eve", on_behalf_of="mia")).then(
        denied("not_substitute")
    )
    for_mia = decided(approve_mine, APPROVE, by="eve", on_behalf_of="mia")
    given(saga, WANTED).when(for_mia).then(denied("not_substitute"))
    given(saga, WANTED, delegated(approve_mine, by="mia", to="eve")).when(for_mia).then(asked(HOLD_CAR))
    given(saga, WANTED).when(decided(approve_mine, APPROVE, by="mia")).then(asked(HOLD_CAR))


def test_an_amendment_after_the_due_time_finds_the_task_expired() -> None:
    """Rule 24, rule 31: by the broker's time, whether or not the timer has fired."""

    spec = given(CHANGING, WANTED)
    [row] = spec.world.main.tasks.values()
    late = Arrived(TripChanged.wire_name, "t-1", {"trip": "t-1", "note": "late"}, "event-9", row.due + 1)
    turn = advance(CHANGING.program, spec.state, late, row.due + 2)
    assert turn.records[0].type == "task.expired"
    assert "task.amended" not in [record.type for record in turn.records]
