"""Records to spans: whatever happens in a saga, its tree is whole at any moment, and always the same."""

from __future__ import annotations

from random import Random

import orjson
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator import telemetry as names
from orchestrator.runtime.identity import span_id_of
from orchestrator.testing.exploring import run_schedule
from orchestrator.tracing.fold import Fields
from orchestrator.tracing.makers import saga_spans
from orchestrator.tracing.span import Span, encoded
from tests.kernel.flows import THEMES, scenario
from tests.tracing.trees import UPSTREAM, flaws, spans_of, stream_of, topic_of

SECOND = 1_000_000
DAY = 86_400 * SECOND
SAGA = "0f0e0d0c-0000-5000-8000-000000000001"


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    flow=st.integers(min_value=0, max_value=2**32),
    theme=st.sampled_from(sorted(set(THEMES))),
    seed=st.integers(min_value=0, max_value=2**32),
)
def test_any_saga_is_one_whole_tree_at_any_moment(flow: int, theme: str, seed: int) -> None:
    """Prefix by prefix, as it is sent while the saga runs: no missing parent, no negative length, no id twice."""
    drawn = scenario(Random(flow), theme)
    assume(drawn is not None)
    assert drawn is not None
    world = run_schedule(drawn, seed)
    for saga_id, story in world.checker.stories.items():
        if not story.records:
            continue
        stream = stream_of(world, saga_id)
        pages = spans_of(saga_id, stream)
        assert flaws(pages) == []
        assert pages == spans_of(saga_id, stream), "the same records are the same spans"
        for page in pages:
            for span in page:
                assert all(isinstance(value, str | int) for value in span.attributes.values())


def record(
    version: int,
    type_: str,
    at: int,
    data: dict[str, object] | None = None,
    activity: str = "",
    *,
    actor: str = "system",
    traceparent: str = "",
) -> Fields:
    """One record by hand."""
    return Fields(version, type_, activity, data or {}, actor, f"cause-{version}", traceparent, at)


STARTED = {"name": "order", "version": 3, "tenant": "main", "type": "shop.OrderPlaced", "data": {"secret": "CANARY"}}
COMMAND = {"participant": "till", "type": "shop.Charge", "version": 1, "body": {"card": "CANARY"}, "key": "CANARY"}


def life() -> list[Fields]:
    """An order: a step that fails once, a task of two days, the end."""
    return [
        record(1, "saga.started", SECOND, STARTED, traceparent=UPSTREAM),
        record(2, "step.requested", SECOND, {"attempt": 1, "round": 1, "command": COMMAND}, "charge"),
        record(3, "step.timed_out", 4 * SECOND, {"attempt": 1, "reason": "CANARY"}, "charge"),
        record(4, "step.requested", 5 * SECOND, {"attempt": 2, "round": 1}, "charge"),
        record(5, "step.succeeded", 6 * SECOND, {"result": {"x": "CANARY"}}, "charge", actor="participant:till",
               traceparent="00-0af7651916cd43dd8448eb211c80319c-00000000000000aa-01"),
        record(6, "task.opened", 6 * SECOND, {"expires": 9 * DAY, "shown": {"iban": "CANARY"}}, "boss"),
        record(7, "task.voted", 2 * DAY, {"vote": {"by": "CANARY", "reason": "CANARY"}}, "boss", actor="person:CANARY"),
        record(8, "task.decided", 2 * DAY, {"outcome": "approve", "decision": {"reason": "CANARY"}}, "boss"),
        record(9, "saga.completed", 2 * DAY, {"outcome": "completed", "result": "CANARY"}),
    ]  # fmt: skip


def tree() -> dict[str, Span]:
    """Its spans by name; the last of a name."""
    return {span.name: span for page in spans_of(SAGA, life()) for span in page}


def test_true_lengths_stand_beside_what_was_sent_at_once() -> None:
    """A task that took two days shows two days; that it is open was said when it opened."""
    spans = tree()
    task, opened = spans["saga.task boss"], spans["saga.task.opened boss"]
    assert (task.end_ns - task.start_ns) // 1000 in range(2 * DAY - 7 * SECOND, 2 * DAY)
    assert task.parent_id == opened.span_id
    assert opened.end_ns - opened.start_ns < 10_000
    assert opened.attributes[names.SAGA_DUE] == "1970-01-10T00:00:00.000000Z"
    step = spans["saga.step charge"]
    assert (step.end_ns - step.start_ns) // 1000 in range(5 * SECOND - 5, 5 * SECOND + 5)
    whole = spans["saga order"]
    assert (whole.start_ns, whole.end_ns // 1_000_000_000) == (SECOND * 1000, 2 * 86_400)


def test_names_kinds_and_attributes_are_those_of_the_conventions() -> None:
    """Root, send and process as OpenTelemetry has them for messaging."""
    spans = tree()
    root = spans["process shop.events"]
    assert (root.kind, root.parent_id) == (names.CONSUMER, UPSTREAM[36:52])
    assert root.trace_id == UPSTREAM[3:35]
    assert root.attributes["messaging.system"] == "kafka"
    assert root.attributes["messaging.operation.type"] == "process"
    assert root.attributes["saga.version"] == 3
    send = spans["send till.commands"]
    assert (send.kind, send.span_id) == (names.PRODUCER, span_id_of(f"{SAGA}/4"))
    assert send.attributes["saga.step.attempt"] == 2
    assert send.parent_id == span_id_of(f"{SAGA}/2"), "another attempt hangs under the first"
    answer = spans["process till.replies"]
    assert answer.kind == names.CONSUMER
    assert answer.links == ((UPSTREAM[3:35], "00000000000000aa"),)
    assert answer.parent_id == span_id_of(f"{SAGA}/2")


def test_a_failed_attempt_is_marked_and_has_its_length() -> None:
    """The step goes on; the attempt of three seconds is there, in red."""
    attempt = tree()["saga.step.attempt charge"]
    assert attempt.error == "timed_out"
    assert (attempt.end_ns - attempt.start_ns) // 1000 in range(3 * SECOND - 5, 3 * SECOND + 5)


def test_no_payload_is_ever_an_attribute() -> None:
    """Bodies, reasons, keys and people stay in the records."""
    for page in spans_of(SAGA, life()):
        assert b"CANARY" not in encoded([({"service.name": "x"}, page)])


def test_an_unsampled_or_own_context_is_no_parent() -> None:
    """What is never sent would be missing; what was begun here for want of an upstream has no span."""
    unsampled = UPSTREAM[:-2] + "00"
    own = f"00-{UPSTREAM[3:35]}-{span_id_of(UPSTREAM[3:35])}-01"
    made = f"00-{UPSTREAM[3:35]}-{span_id_of(f'{SAGA}/1')}-01"
    for traceparent in (unsampled, own, made, "nonsense", "", "00-" + "0" * 32 + "-b7ad6b7169203331-01"):
        (root,) = saga_spans(SAGA, topic_of).take(record(1, "saga.started", 1, STARTED, traceparent=traceparent))
        assert root.parent_id == ""
        assert len(root.trace_id) == 32
        assert root.trace_id.strip("0")


def test_the_bytes_are_otlp_and_always_the_same() -> None:
    """What the collector reads; texts that JSON cannot hold do not stop the others."""
    odd = Span("a" * 32, "b" * 16, "", 'n"\ud800', names.INTERNAL, 1, 2, {"x": True, "n": 1, "s": "\ud800"}, "boom")
    body = encoded([({"service.name": "x"}, [odd]), ({}, [])])
    assert body == encoded([({"service.name": "x"}, [odd])])
    (resource,) = orjson.loads(body)["resourceSpans"]
    (span,) = resource["scopeSpans"][0]["spans"]
    assert resource["schemaUrl"] == "https://opentelemetry.io/schemas/1.44.0"
    assert span["startTimeUnixNano"] == "1"
    assert span["status"] == {"code": 2}
    assert {"key": "x", "value": {"boolValue": True}} in span["attributes"]
    assert {"key": "n", "value": {"intValue": "1"}} in span["attributes"]
    assert "parentSpanId" not in span


def test_a_planted_flaw_in_a_tree_is_found() -> None:
    """The check itself: a page that was never sent, a span sent before its parent, one that ends before it begins."""
    pages = spans_of(SAGA, life())
    assert flaws(pages) == []
    assert "was not sent before" in flaws([*pages[:5], *pages[6:]])[0]
    assert "was not sent before" in flaws([pages[0], pages[4], *pages[1:4], *pages[5:]])[0]
    pages[6][0].end_ns = pages[6][0].start_ns - 1
    assert flaws(pages) == ["saga.task.voted boss has no length"]
    pages[6][0].end_ns, pages[6][0].parent_id = pages[6][0].start_ns + 1, ""
    assert "2 roots" in flaws(pages)
