"""evolve and fold: a state from records alone, the same everywhere; a stream of another kernel is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import orchestrator.kernel
from orchestrator import Saga, fail, for_each, parallel, pivot, scope
from orchestrator.kernel.api import advance, fold
from orchestrator.kernel.evolve import FOLDS
from orchestrator.kernel.folding import evolve
from orchestrator.kernel.inputs import Answer, Cancel, SubjectErased
from orchestrator.kernel.records import FoldError, Record
from orchestrator.kernel.state import State, in_body
from orchestrator.messages import canonical_bytes, plain
from orchestrator.testing import (
    Spec,
    elapsed,
    given,
    operated,
    replied,
    settled_not_done,
    unanswered,
)
from orchestrator.testing.checks import stored
from tests.kernel.trips import (
    CAR,
    CHARGED,
    ROOM,
    TICKET,
    WANTED,
    Noted,
    TripWanted,
    TripWithdrawn,
    charge,
    hold_car,
    hold_room,
    hold_seat,
    note,
    send_ticket,
    telling_failure,
)


def stops(wanted: TripWanted) -> list[int]:
    return list(range(wanted.stops))


MANY = Saga(
    "evolve_many",
    version=1,
    starts_on=TripWanted,
    flow=[
        scope(parallel([hold_room, hold_car], [for_each(stops, note, at_once=2)])).on_event(TripWithdrawn, hold_seat),
        fail("no"),
    ],
    on_failed=telling_failure,
)
GOOD = Saga("evolve_good", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])


def long_story() -> Spec:
    """Branches, items, retries, a failure, undos, an operator."""
    spec = given(MANY, TripWanted(trip="t-1", stops=3), answer_undos=False)
    spec.when(elapsed(seconds=31), ROOM, *(replied(note, Noted(), at=item) for item in range(3)), CAR)
    spec.when(unanswered(hold_car), operated("retry", hold_car), unanswered(hold_car))
    return spec.when(operated("take_over", hold_car), settled_not_done(hold_car), operated("skip", hold_car))


def test_a_state_is_folded_from_records_alone() -> None:
    """V12: as they come back from the store, without graph or saga code."""
    spec = long_story()
    folded = fold(Record(r.type, r.activity, json.loads(canonical_bytes(r.data))) for r in spec.records)
    assert folded.summary() == spec.state.summary()


def test_every_prefix_of_a_stream_folds() -> None:
    """V12: a state exists after every record, not only after every turn."""
    records = [stored(record) for record in long_story().records]
    for length in range(len(records) + 1):
        assert fold(records[:length]).version == length


def test_a_fresh_process_under_another_hash_seed_folds_the_same_state() -> None:
    """V12: no order of a set is in a state."""
    spec = long_story()
    lines = "\n".join(canonical_bytes([r.type, r.activity, r.data]).decode() for r in spec.records)
    code = (
        "import sys, json; from orchestrator.kernel.api import fold; from orchestrator.kernel.records import Record\n"
        "print(repr(fold(Record(*json.loads(line)) for line in sys.stdin).summary()))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], input=lines, capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        again = fold(stored(record) for record in spec.records)
        assert done.stdout.strip() == repr(again.summary())


def test_folding_twice_gives_states_that_share_nothing() -> None:
    """A cached state must not be changed through its records."""
    records = [stored(record) for record in long_story().records]
    before = canonical_bytes([record.data for record in records])
    first = fold(records)
    for found in first.activities.values():
        if found.task is not None:
            found.task.votes.append({})
    assert canonical_bytes([record.data for record in records]) == before


def test_an_unknown_record_is_refused() -> None:
    """The stream is of a newer kernel, or broken."""
    with pytest.raises(FoldError, match=r"unknown record type step\.imagined at version 1"):
        fold([Record("step.imagined", "x", {})])


def test_a_record_that_takes_a_token_that_is_not_there_is_refused() -> None:
    """Section 1: most control-flow bugs die on this alone."""
    with pytest.raises(FoldError, match=r"takes token \+x, which is not there"):
        fold([Record("branch.taken", "x", {"takes": "+x", "gives": []})])


@pytest.mark.parametrize("index", range(1, 8))
def test_a_stream_with_a_record_left_out_does_not_fold_to_the_same_state(index: int) -> None:
    """Nothing in a stream is redundant."""
    spec = given(GOOD, WANTED, ROOM, CHARGED, TICKET)
    records = [stored(record) for record in spec.records]
    if index >= len(records):
        pytest.skip("the stream is shorter")
    shortened = records[:index] + records[index + 1 :]
    try:
        folded = fold(shortened)
    except FoldError:
        return
    assert folded.summary() != spec.state.summary()


def test_a_join_that_counts_too_far_is_refused() -> None:
    """Section 1: started - done never below zero, done never above total."""
    opened = Record("parallel.opened", "p", {"kind": "parallel", "total": 1, "started": 1})
    advanced = Record("parallel.advanced", "p", {})
    state = fold([opened])
    evolve(state, advanced)
    with pytest.raises(FoldError):
        evolve(state, advanced)


def test_a_record_about_an_activity_that_is_not_there_is_refused() -> None:
    """The text names the record and its version."""
    with pytest.raises(FoldError, match=r"step\.succeeded at version 1"):
        fold([Record("step.succeeded", "x", {})])


def test_deciding_leaves_the_state_that_it_was_given_as_it_was() -> None:
    """Rule 28: a cached state must not be the object that a failed commit has changed."""
    spec = given(MANY, TripWanted(trip="t-1", stops=2), ROOM)
    before = fold(stored(record) for record in spec.records)
    live = spec.state
    for given_ in (Cancel("ann", "x"), Answer("do", hold_car.name, 1, 1, "ok", {"car": "C"})):
        advance(MANY.program, live, given_, spec.world.clock + 1)
        assert live.summary() == before.summary()


def test_what_a_discarded_turn_decoded_is_not_seen_by_the_next() -> None:
    """Rule 28: the cache belongs to the fork."""
    spec = given(GOOD, WANTED)
    first = Answer("do", "hold_room", 1, 1, "ok", {"room": "A"})
    assert advance(GOOD.program, spec.state, first, spec.world.clock + 1).state.activities["hold_room"].result
    second = Answer("do", "hold_room", 1, 1, "ok", {"room": "B"})
    turn = advance(GOOD.program, spec.state, second, spec.world.clock + 1)
    back = advance(GOOD.program, turn.state, Cancel("ann", "x"), spec.world.clock + 2)
    done = advance(GOOD.program, back.state, Answer("fence", "charge", 1, 1, "not_done"), spec.world.clock + 3)
    assert done.effects.outbox[-1].body == {"room": "B"}


def test_every_record_is_plain_json_with_one_byte_form() -> None:
    """Rule 33: what is hashed can be recomputed in any language."""
    for record in long_story().records:
        assert plain(record.data) == json.loads(canonical_bytes(record.data))
        assert canonical_bytes(plain(record.data)) == canonical_bytes(record.data)


def test_every_type_of_record_that_is_folded_is_written_somewhere() -> None:
    """A fold that nothing emits is dead code; one that is missing breaks a stream."""
    folder = Path(next(iter(orchestrator.kernel.__path__)))
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    unwritten = [type_ for type_ in FOLDS if sources.count(f'"{type_}"') < 2]
    assert unwritten == []


@pytest.mark.parametrize(
    ("activity", "scope_", "inside"),
    [
        ("s", "", True),
        ("s/a", "s", True),
        ("s[2]/a", "s", True),
        ("s2/a", "s", False),
        ("s", "s", False),
        ("s/on/x/a", "s", False),
        ("s/on_failed/a", "s", False),
        ("s/on_timeout/a", "s", False),
        ("s/then/a", "s", False),
        ("s/t/on_failed/a", "s", True),
        ("lines[1]/a", "lines[1]", True),
        ("lines[10]/a", "lines[1]", False),
    ],
)
def test_handlers_of_a_scope_lie_outside_its_body(activity: str, scope_: str, inside: bool) -> None:
    """S5: otherwise a scope fails into itself for ever."""
    assert in_body(activity, scope_) is inside


def test_an_empty_state_is_new() -> None:
    """Nothing written yet."""
    assert State().phase == "new"
    assert fold([]).summary() == State().summary()


def test_a_saga_says_once_for_each_request_that_its_subject_was_erased() -> None:
    """Two processes may both take it that nobody has told the saga yet."""
    told = SubjectErased("ER-1", ("k1",), "a letter", "olga", "omar")
    spec = long_story()
    first = advance(GOOD.program, spec.state, told, spec.world.clock + 1)
    assert [record.type for record in first.records] == ["subject.erased"]
    again = advance(GOOD.program, first.state, told, spec.world.clock + 2)
    assert (list(again.records), again.refusal) == ([], None)
    other = advance(GOOD.program, again.state, replace(told, request="ER-2"), spec.world.clock + 3)
    assert [record.type for record in other.records] == ["subject.erased"]
    assert other.state.erasures == ("ER-1", "ER-2")
