"""The pure parts of operators' and auditors' pages: differences in words, charts, offers, filters, hex, settings."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from orchestrator import Saga
from orchestrator.api.views import Act, RecordView, SagaView
from orchestrator.config import load_settings
from orchestrator.definition.stored import graph_of
from orchestrator.kernel.operators import ACTS
from orchestrator.pages.audit import shown_at, wanted
from orchestrator.pages.definitions import sections, touched
from orchestrator.pages.drawing.charts import bars, trend
from orchestrator.pages.drawing.messages import messages
from orchestrator.pages.drawing.raw import hex_lines
from orchestrator.pages.offers import needs
from orchestrator.pages.saga_words import place_words, state_of
from orchestrator.pages.system import changed_settings
from orchestrator.pages.when import field_of, instant_of
from orchestrator.testing import REJECT, Spec, decided, denied, given, operated, refused, settled_not_done, unanswered
from sagas.transfers.definition import manager_approval, transfer
from tests.kernel.trips import ROOM, WANTED, TripWanted, hold_car, hold_room
from tests.pages.stories import START, views
from tests.sagas.test_transfers_spec import HELD, VALID, request

TWO_PEOPLE = frozenset({"done", "value", "skip"})


def saga(**changes: Any) -> SagaView:
    """A saga as lists have it."""
    known: dict[str, Any] = {
        "saga_id": "s", "name": "wire", "version": 1, "business_key": "k", "phase": "forward", "outcome": "",
        "waiting_for": "", "stuck": 0, "started_at": START, "updated_at": START, "record": 3,
    }  # fmt: skip
    return SagaView(**{**known, **changes})


def rejected() -> Spec:
    """A transfer that a manager has rejected."""
    return given(transfer, request(6000), VALID, HELD).when(decided(manager_approval, REJECT, by="maria"))


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"waiting_for": "task a/approve"}, ("info", "waiting for a person: approve")),
        ({"waiting_for": "wait by_rm[2]/paid"}, ("info", "waiting for an event: paid")),
        ({"waiting_for": "step lines[3]/reserve"}, ("info", "doing reserve")),
        ({"waiting_for": "operator !a/charge", "stuck": 1}, ("bad", "stuck at charge")),
        ({"waiting_for": "operator -hold", "stuck": 1}, ("bad", "stuck after hold")),
        ({"stuck": 3}, ("bad", "stuck at 3 places")),
        ({"phase": "compensating", "waiting_for": "undo a/hold"}, ("warn", "undoing hold")),
        ({"phase": "completed", "outcome": "auto"}, ("good", "completed: auto")),
        ({"phase": "compensated", "outcome": "failed"}, ("idle", "undone")),
        ({}, ("info", "under way")),
    ],
)
def test_a_saga_says_what_it_does_and_never_only_that_it_runs(changes: dict[str, Any], said: tuple[str, str]) -> None:
    """Look and words, for every kind of state."""
    assert state_of(saga(**changes)) == said


def test_a_place_is_named_without_the_numbers_of_loops() -> None:
    """So that sagas which stand at the same step are counted together."""
    assert place_words("step lines[3]/reserve") == "step reserve"
    assert place_words("operator !lines[3]/reserve") == "stuck reserve"
    assert place_words("") == "between two steps"


# --- what may be done, and that the kernel takes it -------------------------------------------------------------------

LINE = Saga("parts_line", version=1, starts_on=TripWanted, flow=[hold_room, hold_car])


def stuck_undo() -> Spec:
    """The room's undo got no answer and is stuck."""
    return given(LINE, WANTED, ROOM, refused(hold_car), unanswered(hold_room), answer_undos=False)


def test_what_is_offered_for_a_stuck_undo_the_kernel_takes() -> None:
    """And what it would refuse is not offered."""
    spec = stuck_undo()
    (need,) = needs(spec.state, LINE.graph, TWO_PEOPLE)
    offered = {offer.act for offer in need.offers}
    assert offered == {"retry", "take_over"}
    for act in ACTS["~"]:
        outcome = stuck_undo().when(operated(cast(Act, act), hold_room, by="eve")).outputs
        was_refused = any(denied("invalid").fits(output) for output in outcome)
        assert was_refused == (act not in offered), act


def test_an_undo_in_a_persons_hands_may_be_done_skipped_or_given_back() -> None:
    """The dangerous ones say that they take two people."""
    spec = stuck_undo().when(operated("take_over", hold_room, by="eve"))
    spec = spec.when(settled_not_done(hold_room))
    (need,) = needs(spec.state, LINE.graph, TWO_PEOPLE)
    assert {offer.act: offer.second for offer in need.offers} == {"done": True, "skip": True, "give_back": False}
    assert "STAYS" in next(offer for offer in need.offers if offer.act == "skip").consequence
    assert needs(spec.state, LINE.graph, frozenset())[0].offers[0].second is False


def test_every_offer_says_what_follows() -> None:
    """Also where the definition is not there."""
    for graph in (LINE.graph, None):
        for offer in needs(stuck_undo().state, graph, TWO_PEOPLE)[0].offers:
            assert len(offer.consequence) > 40
            assert "None" not in offer.consequence


# --- definitions ------------------------------------------------------------------------------------------------------


def test_a_difference_is_told_by_what_it_concerns() -> None:
    """Who decides, policies, messages, steps: each under its own heading."""
    before = graph_of(transfer.graph.data)
    data = {**transfer.graph.data, "nodes": {path: dict(node) for path, node in transfer.graph.data["nodes"].items()}}
    task_path = next(path for path, node in data["nodes"].items() if node["kind"] == "task")
    data["nodes"][task_path]["to"] = [{"role": "director"}]
    hold = next(path for path, node in data["nodes"].items() if node.get("name") == "hold_funds")
    data["nodes"][hold]["retry"] = {"attempts": 9}
    data["nodes"][hold]["command"] = "transfers.HoldMore"
    found = {section.title: section for section in sections(before, graph_of(data))}
    assert set(found) == {"Who decides", "Policies and time limits", "Messages and contracts"}
    assert "director" in found["Who decides"].lines[0]
    assert touched(before, graph_of(data)) == {task_path, hold}
    assert sections(before, before) == []


# --- charts -----------------------------------------------------------------------------------------------------------


def test_a_chart_is_well_formed_and_says_every_number() -> None:
    """Also with hostile names, without values, and where all are nought."""
    drawn = bars(
        [("<b>", 0.5, True), ("b", None, True), ("c", 1.0, False)], target=0.99, top=1.0, label=str, title="T&T"
    )
    root = ElementTree.fromstring(str(drawn))
    assert {"<b>: 0.5", "c: 1.0"} <= {text for element in root.iter() if (text := element.text)}
    assert "bar-bad" in str(drawn)
    ElementTree.fromstring(str(bars([("a", 0.0, True)], target=None, top=0.0, label=str, title="")))
    ElementTree.fromstring(str(bars([], target=None, top=0.0, label=str, title="")))


def test_a_trend_leaves_gaps_where_nothing_was_measured() -> None:
    """And is left out where there is nothing to compare."""
    assert str(trend([1.0], None)) == ""
    drawn = str(trend([1.0, None, 2.0, 3.0], 2.5))
    ElementTree.fromstring(drawn)
    assert re.findall(r'<path d="([^"]*)"', drawn)[0].count("M") == 2


# --- audit ------------------------------------------------------------------------------------------------------------


def test_an_address_is_a_filter_and_comes_back_as_one() -> None:
    """A person may be named without prefix; a time without zone is the reader's."""
    query = {"actor": "maria", "action": "task.", "since": "2026-01-05T09:00", "as_of": "2026-01-06T00:00:00+00:00"}
    found, as_of, again = wanted(query, "Asia/Kolkata")
    assert found.actor == "person:maria"
    assert found.since == datetime(2026, 1, 5, 3, 30, tzinfo=UTC)
    assert as_of == datetime(2026, 1, 6, tzinfo=UTC)
    assert wanted({**query, **again}, "America/New_York")[0] == found
    assert wanted({"actor": "service:bank"}, "UTC")[0].actor == "service:bank"
    assert wanted({"since": "nonsense"}, "UTC")[0].since is None


def test_a_time_field_holds_the_instant_in_the_readers_zone() -> None:
    """And reads it back the same, to the second."""
    at = datetime(2026, 7, 1, 12, 0, 5, tzinfo=UTC)
    assert field_of(at, "Europe/London") == "2026-07-01T13:00:05"
    assert instant_of(field_of(at, "Europe/London"), "Europe/London") == at
    assert field_of(None, "UTC") == ""
    assert instant_of("", "UTC") is None


def test_what_was_shown_is_rendered_from_the_record_that_held_at_the_vote() -> None:
    """Its hash is computed anew, so an altered subject does not match."""
    records = views(
        given(transfer, request(6000), VALID, HELD).when(decided(manager_approval, REJECT, by="maria")).records
    )
    vote = next(record for record in records if record.type == "task.voted")
    found = shown_at(records, vote)
    assert found is not None
    assert found["matches"]
    assert found["shown"]["amount"] == "6000"
    opened = next(record for record in records if record.type == "task.opened")
    forged = RecordView(
        opened.saga_id, opened.version, opened.type, opened.activity,
        {**opened.data, "shown": {**opened.data["shown"], "amount": "9"}}, opened.actor, opened.recorded_at,
    )  # fmt: skip
    altered = [forged if record is opened else record for record in records]
    again = shown_at(altered, vote)
    assert again is not None
    assert not again["matches"]
    assert shown_at(records, records[0]) is None


# --- messages, bytes, settings ----------------------------------------------------------------------------------------


def test_messages_are_told_with_way_and_partner() -> None:
    """A command out, its reply in; the undo and its answer too."""
    found = messages(views(rejected().records))
    told = [(one.way, one.kind, one.whom) for one in found]
    assert told[:3] == [("in", "event", ""), ("out", "command", "accounts"), ("in", "reply", "accounts")]
    assert ("out", "undo", "accounts") in told
    assert ("in", "reply to undo", "accounts") in told
    assert told[-1] == ("out", "event", "transfers.events")


def test_bytes_are_shown_as_hex_with_what_can_be_read_beside() -> None:
    """Nothing that a terminal or a browser would act on."""
    assert hex_lines(b"{a\x00\x1b\xff") == "000000  7b 61 00 1b ff                                   {a···"
    assert hex_lines(b"") == ""
    assert len(hex_lines(bytes(range(40))).splitlines()) == 3


def test_changed_settings_are_told_and_secrets_never() -> None:
    """A URL may hold a password: only that it was set is said."""
    settings = load_settings(
        database_url="postgresql://app:hunter2@db/x", kafka_password="hunter2", topic_partitions=3, roles="api"
    )
    told = {name: value for name, value, _ in changed_settings(settings)}
    assert told["ORCHESTRATOR_TOPIC_PARTITIONS"] == "3"
    assert told["ORCHESTRATOR_DATABASE_URL"] == "set"
    assert "hunter2" not in str(told)
