"""The time line and the data of a saga: rows, attempts, pauses with their cause, and which record set a field."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import Saga, for_each
from orchestrator.pages.drawing.fields import changes, fields
from orchestrator.pages.drawing.history import History
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.drawing.standing import marks
from orchestrator.pages.drawing.timeline import Pause, timeline
from orchestrator.testing import REJECT, Spec, decided, elapsed, errored, given, replied
from sagas.transfers.definition import hold_funds, manager_approval, transfer
from tests.kernel.test_forks import stops, tell_stop
from tests.kernel.trips import Noted, TripWanted
from tests.pages.stories import NOW, START, STEP, history, views
from tests.sagas.test_transfers_spec import HELD, VALID, request

COUNT = 9  # records until the manager is asked


def waiting() -> Spec:
    """A transfer that waits for its manager."""
    return given(transfer, request(6000), VALID, HELD)


def rejected() -> Spec:
    """One that was rejected after a while, and gave its hold free."""
    return waiting().when(decided(manager_approval, REJECT, by="maria"))


def test_a_step_is_one_row_with_its_records_inside() -> None:
    """Also its attempts: the second one is not another row."""
    seen = history(given(transfer, request(100), VALID, errored(hold_funds, "busy"), elapsed(seconds=2), HELD))
    (row,) = [row for row in timeline(seen, NOW).rows if row.title == "hold_funds"]
    assert [entry.type for entry in row.entries] == [
        "step.requested",
        "step.failed",
        "step.requested",
        "step.succeeded",
    ]
    assert (row.attempts, row.failed, row.words) == (2, True, "done, attempt 2")


def test_no_record_is_lost() -> None:
    """Every record stands in exactly one row."""
    seen = history(rejected())
    versions = [entry.version for row in timeline(seen, NOW).rows for entry in row.entries]
    assert sorted(versions) == list(range(1, len(seen.records) + 1))


def test_an_undo_is_a_row_of_its_own() -> None:
    """The step was done; its undo came later, after the decision."""
    titles = [row.title for row in timeline(history(rejected()), NOW).rows]
    assert titles.index("hold_funds") < titles.index("manager_approval") < titles.index("undo hold_funds")


def test_a_pause_says_what_the_saga_waited_for() -> None:
    """It stands before the record that ended it, within the row of the task."""
    seen = history(rejected(), {COUNT + 1: timedelta(minutes=38)})
    (row,) = [row for row in timeline(seen, NOW + timedelta(hours=1)).rows if row.title == "manager_approval"]
    assert [entry.pause for entry in row.entries] == [
        None,
        Pause("38 min", "waiting for a person: manager_approval"),
        None,
    ]


def test_a_saga_that_waits_says_for_how_long_already() -> None:
    """The last pause is not over."""
    now = START + (COUNT - 1) * STEP + timedelta(hours=2)
    assert timeline(history(waiting()), now).now == Pause("2 h", "waiting for a person: manager_approval", live=True)


def test_only_what_failed_may_be_shown() -> None:
    """The rest is a filter away."""
    seen = timeline(
        history(given(transfer, request(100), VALID, errored(hold_funds, "busy"), elapsed(seconds=2), HELD)),
        NOW,
        failed_only=True,
    )
    assert [row.title for row in seen.rows] == ["hold_funds"]


def test_a_look_back_shows_the_saga_as_it_was() -> None:
    """The same with fewer records."""
    spec = rejected()
    then = history(spec, until=COUNT)
    assert then.state.phase == "forward"
    assert timeline(then, then.records[-1].recorded_at).rows[-1].words == "waiting, 0 of 1 votes"
    assert history(spec).state.phase == "compensated"


def test_a_field_says_which_record_set_it_and_that_it_was_undone() -> None:
    """Now, and before."""
    found = {one.name.rpartition("/")[2]: one for one in fields(views(rejected().records))}
    assert found["hold_funds.hold_id"].now.text == "H-1"
    assert found["hold_funds.hold_id"].now.type == "step.succeeded"
    assert found["hold_funds.hold_id"].undone > found["hold_funds.hold_id"].now.record
    assert (found["start.amount"].now.text, found["start.amount"].now.record) == ("6000", 1)
    assert found["manager_approval.outcome"].now.text == "reject"


def test_what_changed_between_two_records_is_named() -> None:
    """From the hold to the decision: the answer is new, the amount is not."""
    names = [change.name.rpartition("/")[2] for change in changes(views(rejected().records), COUNT, COUNT + 2)]
    assert names == ["manager_approval.outcome"]


def test_a_length_is_said_in_at_most_two_units() -> None:
    """And never as nought of the larger one."""
    lengths = [0.004, 0.4, 59.99, 61, 2400, 6000, 7200, 90_000, 900_000]
    said = ["4 ms", "0.4 s", "1 min", "1 min", "40 min", "1 h 40 min", "2 h", "1 d 1 h", "10 d"]
    assert [span(timedelta(seconds=seconds)) for seconds in lengths] == said


def test_an_empty_history_is_no_error() -> None:
    """A page of a saga that is being written for the first time."""
    assert timeline(History.of([]), NOW).rows == ()


def test_a_long_history_is_shown_two_hundred_rows_at_a_time() -> None:
    """Every row is on exactly one page, the newest on the last; loops are one box of the picture, with counts."""
    many = 450
    saga = Saga("pages_many", version=1, starts_on=TripWanted, flow=[for_each(stops, tell_stop, at_once=many)])
    spec = given(saga, TripWanted(trip="t-1", stops=many))
    spec.when(*(replied(tell_stop, Noted(), at=number) for number in range(20)))
    seen = history(spec)
    pages = [timeline(seen, NOW, page=number) for number in (1, 2, 3)]
    assert [len(page.rows) for page in pages] == [200, 200, many + 2 - 400]
    assert {page.pages for page in pages} == {3}
    titles = [row.words for page in pages for row in page.rows if row.title == "tell_stop"]
    assert (titles.count("done"), titles.count("running")) == (20, many - 20)
    mark = marks(saga.graph, seen, NOW)["stops/tell_stop"]
    assert mark.words == f"20 done, {many - 20} running"
    assert timeline(seen, NOW, page=99).page == 3
