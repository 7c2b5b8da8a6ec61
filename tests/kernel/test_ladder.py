"""Rule 24, continued: levels that set the clock anew, reminders, working time, and what happens after downtime."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Escalate, Person, Role, Saga, WorkingTime, task
from orchestrator.calendars import calendar
from orchestrator.kernel.api import Turn, advance, fold
from orchestrator.kernel.inject import instant
from orchestrator.kernel.inputs import Arrived, TaskAct, TimerDue, Vote
from orchestrator.kernel.records import Record
from orchestrator.testing import (
    APPROVE,
    Spec,
    arrived,
    asked,
    compensated,
    decided,
    elapsed,
    escalated,
    given,
    reminded,
)
from tests.kernel.trips import HOLD_CAR, WANTED, TripChanged, TripToApprove, TripWanted, hold_car, of

HOUR = timedelta(hours=1)
HOUR_US = 3_600_000_000
LEVELS = [Escalate(4 * HOUR, Role("lead"), reset_sla=True), Escalate(30 * HOUR, Person("boss"))]


def laddered(**more: Any) -> tuple[Saga[Any], Any]:
    """A saga of one task of 24 hours with a ladder, and the task."""

    @task(to=Role("desk"), **{"within": 24 * HOUR, "escalate": LEVELS, **more})
    def climb(wanted: TripWanted, changed: TripChanged | None) -> TripToApprove:
        return TripToApprove(trip=wanted.trip, note=changed.note if changed else "")

    return Saga("ladder", version=1, starts_on=TripWanted, flow=[climb.amend_on(TripChanged), hold_car]), climb


def expires(spec: Spec) -> int:
    """When the open task expires, in hours since it opened."""
    [row] = spec.world.main.tasks.values()
    return int((row.due - row.data["opened_at"]) // HOUR_US)


def late(spec: Spec, hours: int) -> Turn:
    """The task's timer fires after downtime, so many hours after the task was opened."""
    [timer] = spec.world.main.timers.values()
    [row] = spec.world.main.tasks.values()
    due = TimerDue(timer.activity, timer.armed)
    return advance(spec.world.main.definition.program, spec.state, due, row.data["opened_at"] + hours * HOUR_US)


def levels(turn: Turn) -> list[tuple[str, Any]]:
    """Record types of a turn, levels with their number."""
    return [(record.type.partition(".")[2], record.data.get("level")) for record in turn.records]


# --- levels -----------------------------------------------------------------------------------------------------------


def test_a_level_that_resets_the_clock_gives_the_whole_time_again() -> None:
    """And only that level: the next one leaves the clock as it is."""
    saga, climb = laddered()
    spec = given(saga, WANTED)
    assert expires(spec) == 24
    spec.when(elapsed(hours=4)).then(escalated(climb))
    assert expires(spec) == 28
    spec.when(elapsed(hours=23)).then_nothing()
    spec.when(elapsed(hours=1)).then(compensated("nobody decided climb in time"))


def test_a_level_after_the_first_end_comes_where_the_clock_was_set_anew() -> None:
    """30 hours is after the 24 of the task, and before the 28 that it has now."""
    saga, climb = laddered(escalate=[LEVELS[0], Escalate(27 * HOUR, Person("boss"))])
    given(saga, WANTED, elapsed(hours=4)).when(elapsed(hours=23)).then(escalated(climb))


def test_a_late_vote_finds_the_clock_set_anew_although_no_timer_has_fired() -> None:
    """Downtime is not lateness: the level was due in time, so the task goes on, and the vote counts."""
    saga, _ = laddered()
    spec = given(saga, WANTED)
    [row] = spec.world.main.tasks.values()
    vote = Vote("climb", "max", ("desk",), {"outcome": "approve"}, row.data["hash"], row.due + HOUR_US)
    turn = advance(saga.program, spec.state, vote, row.due + HOUR_US)
    assert turn.refusal is None
    assert [record.type for record in turn.records[:3]] == ["task.escalated", "task.voted", "task.decided"]


def test_a_late_act_finds_the_clock_set_anew_as_well() -> None:
    """Whoever may still decide may still be given the task."""
    saga, _ = laddered()
    spec = given(saga, WANTED)
    [row] = spec.world.main.tasks.values()
    act = TaskAct("climb", "claim", "max", ("desk",), row.due + HOUR_US)
    turn = advance(saga.program, spec.state, act, row.due + HOUR_US)
    assert turn.refusal is None
    assert [record.type for record in turn.records] == ["task.escalated", "task.claimed"]


def test_a_late_event_finds_the_clock_set_anew_as_well() -> None:
    """The same for what amends the task."""
    saga, _ = laddered()
    spec = given(saga, WANTED)
    [row] = spec.world.main.tasks.values()
    changed = Arrived(TripChanged.wire_name, "t-1", {"trip": "t-1", "note": "x"}, "e-1", row.due + HOUR_US)
    turn = advance(saga.program, spec.state, changed, row.due + HOUR_US)
    assert [record.type for record in turn.records] == ["task.escalated", "task.amended"]


def test_an_event_of_a_clock_ahead_of_ours_finds_the_end_and_ends() -> None:
    """The broker says that it came after the end; a level that sets the clock anew is not due by our clock yet."""
    saga, _ = laddered(escalate=[Escalate(23 * HOUR, Role("lead"), reset_sla=True)])
    spec = given(saga, WANTED)
    [row] = spec.world.main.tasks.values()
    opened_at = row.data["opened_at"]
    changed = Arrived(TripChanged.wire_name, "t-1", {"trip": "t-1", "note": "x"}, "e-1", opened_at + 24 * HOUR_US)
    turn = advance(saga.program, spec.state, changed, opened_at + 22 * HOUR_US)
    assert "task.amended" not in [record.type for record in turn.records]


def test_after_three_days_every_missed_level_happens_once_in_order() -> None:
    """The definition's policy `each`, which is the default; and people get the time that the first level gives."""
    saga, _ = laddered(escalate=[LEVELS[0], LEVELS[1], Escalate(40 * HOUR, Role("board"))])
    turn = late(given(saga, WANTED), 72)
    assert levels(turn) == [("escalated", 1), ("escalated", 2), ("escalated", 3)]
    task_ = turn.state.activities["climb"].task
    assert task_ is not None
    assert task_.expires == task_.opened_at + (72 + 24) * HOUR_US
    assert [entry for entry in task_.to if "role" in entry] == [{"role": "desk"}, {"role": "lead"}, {"role": "board"}]


def test_after_three_days_only_the_last_missed_level_happens_where_the_definition_says_so() -> None:
    """One record, which names what was missed; those of the levels between are not asked."""
    saga, _ = laddered(escalate=[LEVELS[0], LEVELS[1], Escalate(40 * HOUR, Role("board"))], catch_up="last")
    turn = late(given(saga, WANTED), 72)
    assert levels(turn) == [("escalated", 3)]
    assert len(turn.records[0].data["missed"]) == 2
    task_ = turn.state.activities["climb"].task
    assert task_ is not None
    assert ({"role": "lead"} in task_.to, {"role": "board"} in task_.to, task_.levels) == (False, True, [])
    assert task_.expires == task_.opened_at + (72 + 24) * HOUR_US


def test_levels_that_came_in_time_are_each_their_own_also_under_last() -> None:
    """The policy is about what was missed."""
    saga, climb = laddered(escalate=[Escalate(4 * HOUR, Role("lead")), Escalate(8 * HOUR, Role("x"))], catch_up="last")
    given(saga, WANTED).when(elapsed(hours=9)).then(escalated(climb), escalated(climb))


# --- reminders --------------------------------------------------------------------------------------------------------


def test_a_reminder_is_a_record_and_changes_nothing() -> None:
    """Nobody else is asked, no clock is moved, the task stays open."""
    saga, climb = laddered(escalate=[], remind=[2 * HOUR, 20 * HOUR])
    spec = given(saga, WANTED).when(elapsed(hours=2)).then(reminded(climb))
    assert expires(spec) == 24
    [row] = spec.world.main.tasks.values()
    assert row.data["to"] == [{"role": "desk"}]
    spec.when(elapsed(hours=18)).then(reminded(climb))
    spec.when(decided(climb, APPROVE, by="max")).then(asked(HOLD_CAR))
    assert [record.data["number"] for record in of(spec, "task.reminded")] == [1, 2]


def test_reminders_and_levels_come_in_the_order_of_time() -> None:
    """Also all at once, after downtime; what would come after the end never comes."""
    saga, _ = laddered(escalate=[Escalate(4 * HOUR, Role("lead"))], remind=[6 * HOUR, 2 * HOUR, 4 * HOUR])
    turn = late(given(saga, WANTED), 72)
    kinds = [kind for kind, _ in levels(turn)]
    assert kinds[:5] == ["reminded", "escalated", "reminded", "reminded", "expired"]
    was_due = [record.data["was_due"] for record in turn.records[:4]]
    assert was_due == sorted(was_due)


def test_missed_reminders_are_one_under_last() -> None:
    """Three mails at once about one task help nobody."""
    saga, _ = laddered(escalate=[], remind=[2 * HOUR, 4 * HOUR, 6 * HOUR], catch_up="last")
    turn = late(given(saga, WANTED), 7)
    assert [(record.type, record.data["missed"]) for record in turn.records] == [("task.reminded", 2)]


def test_a_decided_task_reminds_nobody() -> None:
    """Rule 24: closing is one record."""
    saga, climb = laddered(escalate=[], remind=[2 * HOUR])
    spec = given(saga, WANTED, decided(climb, APPROVE, by="max"))
    assert set(spec.world.main.timers) == {"hold_car"}


# --- working time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["IN-Mumbai", "GB-London", "always"])
def test_working_time_is_counted_in_the_calendar_when_the_clock_starts_and_recorded(name: str) -> None:
    """SLA, levels and reminders: what the record says is what holds."""
    eight, two, one = (WorkingTime(hours=hours, calendar=name) for hours in (8, 2, 1))
    saga, _ = laddered(within=eight, escalate=[Escalate(two, Role("lead"))], remind=[one])
    spec = given(saga, WANTED)
    [opened] = of(spec, "task.opened")
    now = instant(opened.data["at"])
    due = [
        instant(opened.data["reminders"][0]),
        instant(opened.data["levels"][0]["at"]),
        instant(opened.data["expires"]),
    ]
    assert due == [calendar(name).add(now, hours * HOUR) for hours in (1, 2, 8)]
    assert opened.data["due"] == opened.data["reminders"][0]


def test_a_level_gives_working_time_again() -> None:
    """The clock that is set anew is the same kind of clock."""
    within = WorkingTime(hours=8, calendar="IN-Mumbai")
    saga, climb = laddered(within=within, escalate=[Escalate(HOUR, Role("lead"), reset_sla=True)])
    spec = given(saga, WANTED).when(elapsed(hours=1)).then(escalated(climb))
    [record] = of(spec, "task.escalated")
    assert instant(record.data["expires"]) == calendar("IN-Mumbai").add(instant(record.data["at"]), 8 * HOUR)


def test_a_graph_keeps_the_ladder_and_old_graphs_keep_their_hash() -> None:
    """What a definition does not use is not in its form, so a running version stays what it was."""
    from orchestrator.definition.stored import graph_of

    plain, _ = laddered(escalate=[Escalate(HOUR, Role("lead"))])
    node = plain.graph.data["nodes"]["climb"]
    assert {"remind", "catch_up", "amount", "limits"}.isdisjoint(node)
    assert node["escalate"] == [{"after_ms": 3_600_000, "to": [{"role": "lead"}]}]
    full, _ = laddered(
        within=WorkingTime(hours=8, calendar="always"), remind=[HOUR], catch_up="last",
        escalate=[Escalate(WorkingTime(minutes=30, calendar="always"), Role("lead"), reset_sla=True)],
    )  # fmt: skip
    again = graph_of(full.graph.data)
    assert again.hash == full.graph.hash != plain.graph.hash
    assert again.nodes["climb"].remind == full.graph.nodes["climb"].remind  # type: ignore[attr-defined]
    assert again.nodes["climb"].escalate == full.graph.nodes["climb"].escalate  # type: ignore[attr-defined]


# --- records of earlier releases --------------------------------------------------------------------------------------

NEW = {
    "task.opened": {"earlier", "reminders", "amount", "limits", "chain", "catch_up"},
    "task.escalated": {"at", "expires", "missed"},
    "task.amended": {"at", "excluded", "amount"},
}


def test_records_that_an_earlier_release_wrote_fold_as_they_did() -> None:
    """A field that they lack has its default: nobody is excluded, reminded or limited after the fact."""
    saga, _ = laddered(escalate=[Escalate(4 * HOUR, Role("lead"))])
    changed = arrived(TripChanged(trip="t-1", note="x"))
    spec = given(saga, WANTED, elapsed(hours=5), changed)
    old = [
        Record(one.type, one.activity, {name: one.data[name] for name in one.data if name not in NEW.get(one.type, ())})
        for one in spec.world.main.records
    ]
    task_ = fold(old).activities["climb"].task
    assert task_ is not None
    assert (task_.level, task_.levels, task_.round, task_.votes, task_.reminders) == (1, [], 2, [], [])
    assert (task_.claim, task_.delegations, task_.limits, task_.catch_up) == (None, [], [], "each")
    assert task_.to == [{"role": "desk"}, {"role": "lead"}]
    assert task_.expires == spec.world.main.tasks["climb"].due
