"""Every type of record that the kernel knows: which spans it makes, or why it makes none."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import telemetry as names
from orchestrator.kernel.evolve import FOLDS
from orchestrator.messages.protocol import SAGAS_TOPIC
from orchestrator.tracing.fold import MAKERS, Fields, SagaSpans, Wire
from orchestrator.tracing.makers import saga_spans
from orchestrator.tracing.moves import SILENT
from orchestrator.tracing.span import Span, encoded_span
from tests.tracing.trees import UPSTREAM, topic_of

SAGA = "0f0e0d0c-0000-5000-8000-000000000001"
PARENT = {"saga_id": "0f0e0d0c-0000-5000-8000-000000000002", "activity": "call", "round": 1}
STARTED = {"name": "order", "version": 3, "tenant": "main", "type": "shop.OrderPlaced", "parent": None}
COMMAND = {"participant": "till", "type": "shop.Charge", "version": 1, "body": {}, "key": "k"}
DO = {"attempt": 1, "round": 1, "command": COMMAND}
FAILURE = {"failure": {"kind": "refused", "reason": "CANARY"}}

# What stands open before the record in question: a step, a task, an event, a delay, a scope, a child, a going back, an
# undo, a fence and a stuck place.
BEFORE: list[tuple[str, str, dict[str, Any]]] = [
    ("step.requested", "pay", DO),
    ("task.opened", "boss", {"expires": 5}),
    ("event.awaited", "mail", {"due": 5}),
    ("timer.set", "nap", {"due": 5}),
    ("scope.entered", "all", {}),
    ("child.requested", "sub", {}),
    ("fence.requested", "pay", {"attempt": 1}),
    ("compensation.started", "", FAILURE),
    ("undo.requested", "pay", {"attempt": 1, "command": COMMAND}),
    ("saga.stuck", "pay", {"place": "+pay", "cause": "function", "reason": "CANARY"}),
]

# By type: the activity, the data that matters here, and the spans. A new type of record has its line here, or an entry
# in SILENT that says why it makes none.
SPANS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "step.requested": ("ship", DO, ["send till.commands"]),
    "step.succeeded": ("pay", {}, ["saga.step.succeeded pay", "saga.step pay"]),
    "step.refused": ("pay", {}, ["saga.step.refused pay", "saga.step pay"]),
    "step.failed": ("pay", {"attempt": 1}, ["saga.step.failed pay", "saga.step.attempt pay"]),
    "step.timed_out": ("pay", {"attempt": 1}, ["saga.step.timed_out pay", "saga.step.attempt pay"]),
    "fence.requested": ("pay", {"attempt": 2}, ["send till.commands"]),
    "fence.owed": ("pay", {"attempt": 2}, ["send till.commands"]),
    "fence.failed": ("pay", {}, ["saga.fence.failed pay"]),
    "effect.found": ("pay", {}, ["saga.effect.found pay"]),
    "reply.late": ("pay", {}, ["saga.reply.late pay"]),
    "reply.contradicted": ("pay", {}, ["saga.reply.contradicted pay"]),
    "evidence.checked": ("pay", {}, ["saga.evidence.checked pay"]),
    "evidence.proposed": ("pay", {}, ["saga.evidence.proposed pay"]),
    "event.awaited": ("post", {}, ["saga.wait.opened post"]),
    "event.received": ("mail", {"type": "x.Y"}, ["process shop.events", "saga.wait mail"]),
    "event.expired": ("mail", {}, ["saga.event.expired mail", "saga.wait mail"]),
    "event.published": ("told", {"event": {"type": "x.Y", "topic": "x.events"}}, ["send x.events"]),
    "timer.set": ("sleep", {}, ["saga.delay.opened sleep"]),
    "timer.fired": ("nap", {}, ["saga.delay nap"]),
    "scope.entered": ("inner", {}, ["saga.scope.opened inner"]),
    "scope.interrupted": ("all", {"withdrawn": ["mail"]}, ["saga.scope.interrupted all", "saga.wait mail"]),
    "scope.failing": ("all", {"withdrawn": ["nap"]}, ["saga.scope.failing all", "saga.delay nap"]),
    "scope.undo_planned": ("all", {"plan": ["pay"]}, ["saga.compensation.planned"]),
    "scope.left": ("all", {}, ["saga.scope all"]),
    "scope.closed": ("all", {}, ["saga.scope all"]),
    "scope.undone": ("all", {}, ["saga.scope all"]),
    "branch.taken": ("if1", {"gives": ["+if1/otherwise/pay"], "label": "CANARY"}, ["saga.branch if1"]),
    "value.computed": ("sum", {"value": "CANARY"}, ["saga.compute sum"]),
    "state.entered": ("enter", {"state": "approved"}, ["saga.state approved"]),
    "loop.opened": ("lines", {"kind": "for_each", "items": ["CANARY"]}, ["saga.loop lines"]),
    "loop.iterated": ("lines", {"round": 1}, ["saga.loop.round lines"]),
    "loop.left": ("lines", {"withdrawn": ["all"]}, ["saga.scope all"]),
    "parallel.opened": ("both", {"total": 2}, ["saga.parallel both"]),
    "task.opened": ("chief", {}, ["saga.task.opened chief"]),
    "task.decided": ("boss", {"outcome": "approve"}, ["saga.task boss"]),
    "task.expired": ("boss", {}, ["saga.task.expired boss", "saga.task boss"]),
    "task.amend_failed": ("boss", {}, ["saga.task.amend_failed boss"]),
    **{
        f"task.{act}": ("boss", {"reason": "CANARY"}, [f"saga.task.{act} boss"])
        for act in ("claimed", "released", "delegated", "reassigned", "commented", "attached", "voted", "amended")
    },
    "task.escalated": ("boss", {}, ["saga.task.escalated boss"]),
    "task.reminded": ("boss", {}, ["saga.task.reminded boss"]),
    "child.requested": ("other", {}, [f"send {SAGAS_TOPIC}"]),
    "child.completed": ("sub", {}, [f"process {SAGAS_TOPIC}", "saga.call sub"]),
    "child.completed_early": ("sub", {}, [f"process {SAGAS_TOPIC}"]),
    "child.failed": ("sub", {}, [f"process {SAGAS_TOPIC}", "saga.call sub"]),
    "parent.answered": ("", {}, [f"send {SAGAS_TOPIC}"]),
    "compensation.started": ("", {**FAILURE, "withdrawn": ["nap"]}, ["saga.compensation.opened", "saga.delay nap"]),
    "undo.planned": ("", {"plan": ["pay", "ship"]}, ["saga.compensation.planned"]),
    "undo.requested": ("pay", {"attempt": 2}, ["send till.commands"]),
    "undo.succeeded": ("pay", {}, ["saga.undo.succeeded pay", "saga.undo pay"]),
    "undo.failed": ("pay", {}, ["saga.undo.failed pay"]),
    "undo.never_known": ("pay", {}, ["saga.undo.never_known pay"]),
    "undo.taken_over": ("pay", {}, ["saga.undo.taken_over pay", "saga.stuck pay"]),
    "undo.handed": ("pay", {}, ["saga.undo.handed pay", "saga.stuck pay"]),
    "compensation.finished": ("", {}, ["saga.compensation"]),
    "saga.failing": ("", {}, ["saga.failing"]),
    "saga.deadline_missed": ("", {}, ["saga.deadline_missed"]),
    "cancel.refused": ("", {}, ["saga.cancel.refused"]),
    "saga.stuck": ("ship", {"place": "+ship", "cause": "function"}, ["saga.stuck.opened ship"]),
    "operator.proposed": ("pay", {"value": "CANARY"}, ["saga.operator.proposed pay"]),
    "operator.retried": ("pay", {}, ["saga.operator.retried pay", "saga.stuck pay"]),
    "operator.gave_back": ("pay", {}, ["saga.operator.gave_back pay", "saga.stuck pay"]),
    **{
        f"operator.{act}": ("pay", {}, [f"saga.operator.{act} pay", "saga.stuck pay", "saga.step pay", "saga.undo pay"])
        for act in ("skipped", "completed_by_hand", "settled")
    },
    "subject.erased": ("", {"reason": "CANARY", "by": "CANARY"}, ["saga.subject.erased"]),
    "saga.completed": ("", {"outcome": "completed"}, ["saga order"]),
    "saga.compensated": ("", {"outcome": "refused"}, ["saga.compensation", "saga order"]),
    "saga.tombstoned": ("", {**STARTED, "parent": PARENT}, [f"process {SAGAS_TOPIC}", "saga order"]),
}


def record(version: int, type_: str, activity: str, data: dict[str, Any]) -> Fields:
    """A record a second after the one before."""
    return Fields(version, type_, activity, data, "system", "m-1", UPSTREAM, version * 1_000_000)


def under_way() -> SagaSpans:
    """A saga in which something of every kind is open."""
    fold = saga_spans(SAGA, topic_of, Wire("postgresql", "deciders"))
    for version, (type_, activity, data) in enumerate([("saga.started", "", STARTED), *BEFORE], start=1):
        fold.take(record(version, type_, activity, data))
    return fold


def made(type_: str) -> list[Span]:
    """The spans that a record of this type makes, in a saga in which something of every kind is open."""
    activity, data, _ = SPANS[type_]
    if type_ == "saga.tombstoned":
        return saga_spans(SAGA, topic_of).take(record(1, type_, activity, data))
    fold = under_way()
    return fold.take(record(fold.version + 1, type_, activity, data))


def test_no_type_of_record_is_forgotten() -> None:
    """Whoever adds one says here what people see of it in a trace, or why nothing."""
    assert set(SPANS) | set(SILENT) == set(FOLDS)
    assert set(SPANS) & set(SILENT) == set()
    assert set(MAKERS) == set(SPANS)
    assert all(SILENT.values())


@pytest.mark.parametrize("type_", sorted(SPANS))
def test_a_record_makes_the_spans_that_people_look_for(type_: str) -> None:
    """By name; of some length, below what was sent before, and with nothing of a payload."""
    spans = made(type_)
    assert [span.name for span in spans] == SPANS[type_][2]
    assert all(span.end_ns > span.start_ns for span in spans)
    assert b"CANARY" not in b"".join(map(encoded_span, spans))


@pytest.mark.parametrize("type_", sorted(set(SILENT) - {"saga.started"}))
def test_a_silent_record_makes_none(type_: str) -> None:
    """It changes nothing that anybody would look for."""
    fold = under_way()
    assert fold.take(record(fold.version + 1, type_, "all", {})) == []


def test_a_branch_tells_the_path_and_never_what_decided() -> None:
    """The path is a name of the definition; a label may be whatever a function gave."""
    (span,) = made("branch.taken")
    assert span.attributes[names.SAGA_BRANCH_NEXT] == "otherwise/pay"
    fold = under_way()
    (past,) = fold.take(record(fold.version + 1, "branch.taken", "if1", {"gives": ["-if1"], "label": "false"}))
    assert past.attributes[names.SAGA_BRANCH_NEXT] == "past it"


def test_numbers_of_things_are_told_and_the_things_are_not() -> None:
    """How many lines, branches, rounds and undos."""
    assert made("loop.opened")[0].attributes[names.SAGA_LOOP_ITEMS] == 1
    assert made("parallel.opened")[0].attributes[names.SAGA_BRANCHES] == 2
    assert made("loop.iterated")[0].attributes[names.SAGA_LOOP_ROUND] == 2
    assert made("undo.planned")[0].attributes[names.SAGA_UNDOS] == 2


def test_a_child_that_was_called_off_before_it_began_has_its_end() -> None:
    """One record is both: a root, and the span of the saga with how it ended."""
    root, whole = made("saga.tombstoned")
    assert (whole.parent_id, whole.attributes[names.SAGA_OUTCOME]) == (root.span_id, "tombstoned")
    assert root.attributes[names.SAGA_PARENT] == PARENT["saga_id"]


def test_a_span_names_the_broker_that_really_carried_the_message() -> None:
    """Also where that is a table: and whose group handled it."""
    (received, _) = made("event.received")
    assert received.attributes[names.MESSAGING_SYSTEM] == "postgresql"
    assert received.attributes[names.MESSAGING_GROUP] == "deciders"
    (published,) = made("event.published")
    assert names.MESSAGING_GROUP not in published.attributes
    assert (names.system_of("kafka://a:9092"), names.system_of("postgres://")) == ("kafka", "postgresql")


def test_a_red_span_says_in_our_words_what_its_code_means() -> None:
    """And in nobody else's: the reason may name a customer."""
    (_, whole) = made("saga.compensated")
    assert b'"status":{"code":2,"message":"the saga went back' in encoded_span(whole)
    (stuck,) = made("saga.stuck")
    assert b'"message":"a function of the saga raised' in encoded_span(stuck)
