"""What a running product says of itself: to Prometheus, who asks, and to a collector, who is sent it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import asyncpg
import httpx2
import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality

from orchestrator.metrics import names, wiring
from orchestrator.metrics.names import BY_NAME, KEYS_ASKED, KEYS_AWAY, prometheus_label, prometheus_name
from orchestrator.metrics.text import render
from orchestrator.runtime.app import Runtime
from orchestrator.tracing.words import low
from tests.metrics.conftest import CANARY, HEADER, Measured, total
from tests.metrics.receiver import Receiver, attributes, points

PARTICIPANT = ("saga_participant_name", "apitest-desk")

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_sagas_are_counted_by_what_became_of_them(measured: Measured) -> None:
    """Begun, completed, compensated with the cause, stuck; and how long they took."""
    found = await measured.scrape()
    assert total(found, "saga_started_total", saga_name="payout") == 5
    assert total(found, "saga_ended_total", saga_name="payout", saga_phase="completed") == 1
    assert total(found, "saga_ended_total", saga_phase="compensated", saga_outcome="refused") == 1
    assert total(found, "saga_turned_back_total", saga_failure_kind="refused") == 1
    assert total(found, "saga_stops_total", saga_stuck_cause="function") == 2  # and again when it was retried
    assert total(found, "saga_operator_acts_total", saga_operator_act="retried") == 1
    assert total(found, "saga_duration_seconds_count", saga_phase="completed") == 1
    assert total(found, "saga_duration_seconds_count", saga_phase="compensated") == 2
    assert total(found, "saga_duration_seconds_sum") > 0


async def test_steps_and_undos_have_names_and_durations(measured: Measured) -> None:
    """By saga and step; a business no is an answer too."""
    found = await measured.scrape()
    assert total(found, "saga_step_duration_seconds_count", saga_step_name="reserve", saga_outcome="ok") == 4
    assert total(found, "saga_step_duration_seconds_count", saga_step_name="reserve", saga_outcome="refused") == 1
    assert total(found, "saga_step_duration_seconds_count", saga_step_name="pay", saga_outcome="ok") == 1
    assert total(found, "saga_undos_total", saga_step_name="reserve", saga_outcome="succeeded") == 1


async def test_people_are_counted_by_task(measured: Measured) -> None:
    """Opened, decided, expired: the service level; and what is open and overdue, from the database."""
    found = await measured.scrape()
    assert total(found, "saga_tasks_opened_total", saga_step_name="approve") == 3
    assert total(found, "saga_tasks_closed_total", saga_step_name="approve", saga_outcome="decided") == 1
    assert total(found, "saga_tasks_closed_total", saga_step_name="approve", saga_outcome="expired") == 1
    assert total(found, "saga_tasks_escalated_total", saga_step_name="approve") == 0
    assert total(found, "saga_task_duration_seconds_count", saga_outcome="decided") == 1
    assert await measured.until("saga_tasks_open", 1, saga_task_state="overdue") == 1
    assert 3_000 < await measured.until("saga_tasks_overdue_age_seconds", 1) < 7_200


async def test_the_database_is_asked_for_what_concerns_all_processes(measured: Measured) -> None:
    """In flight, stuck, dead letters with their reason, and queues that are empty."""
    assert await measured.until("saga_stuck", 1, saga_name="payout") == 1
    assert await measured.until("saga_dead_letters_waiting", 1, saga_dead_letter_reason="unreadable") == 1
    found = await measured.scrape()
    assert total(found, "saga_in_flight", saga_name="payout") == 2
    assert total(found, "saga_dead_letters_kept_total", saga_dead_letter_reason="unreadable") == 1
    assert ("saga_dead_letters_kept_total", frozenset({("saga_dead_letter_reason", "poison")})) in found
    for name in ("outbox_depth", "outbox_age_seconds", "intake_lag_seconds", "timer_lateness_seconds"):
        assert (f"saga_{name}", frozenset()) in found, name
    models = {
        dict(labels)["saga_projection_name"] for sample, labels in found if sample == "saga_projection_lag_seconds"
    }
    assert {"approvals", "audit", "journeys"} <= models


async def test_it_is_known_how_long_records_wait_for_a_checkpoint(measured: Measured) -> None:
    """And how long each place outside waits for what was signed."""
    found = await measured.present("saga_checkpoint_publish_lag_seconds")
    assert 0 <= total(found, "saga_checkpoint_age_seconds") < 60
    places = {dict(labels)["saga_checkpoint_place"] for name, labels in found if name.endswith("publish_lag_seconds")}
    assert len(places) == 1


async def test_messages_are_counted_as_the_conventions_say(measured: Measured) -> None:
    """Sent and consumed by topic and system; durations by operation; nothing of a message's own."""
    found = await measured.scrape()
    commands = {"messaging_system": "postgresql", "messaging_destination_name": "apitest-desk.commands"}
    sent = total(found, "messaging_client_sent_messages_total", messaging_operation_name="send", **commands)
    group = "participants.apitest-desk"
    consumed = total(found, "messaging_client_consumed_messages_total", messaging_consumer_group_name=group, **commands)
    assert sent == consumed == 7  # five reserve, one pay, one undo
    kind = {"messaging_operation_name": "process", "messaging_operation_type": "process"}
    assert total(found, "messaging_process_duration_seconds_count", **kind, **commands) == 7
    replies = {"messaging_destination_name": "apitest-desk.replies", "messaging_consumer_group_name": "orchestrator"}
    assert total(found, "messaging_process_duration_seconds_count", **kind, **replies) == 7
    for operation in ("send", "poll", "commit"):
        calls = total(found, "messaging_client_operation_duration_seconds_count", messaging_operation_name=operation)
        assert calls > 0 or operation == "commit", operation
    assert total(found, "saga_commands_handled_total", saga_participant_name="apitest-desk") == 7


async def test_notices_are_counted_by_channel_and_what_became_of_them(measured: Measured) -> None:
    """Sent, with how long it took and waited; what never happened is there with 0; none of whom they are for."""
    assert await measured.until("saga_notices_settled_total", 3, saga_notice_channel="event", saga_outcome="sent") >= 3
    assert await measured.until("saga_notice_duration_seconds_count", 3, saga_notice_channel="event") >= 3
    found = await measured.present("saga_notices_age_seconds")
    assert total(found, "saga_notice_wait_seconds_count", saga_notice_channel="event") >= 3
    event = ("saga_notice_channel", "event")
    for outcome in ("failed", "retried", "skipped"):
        assert found["saga_notices_settled_total", frozenset({event, ("saga_outcome", outcome)})] == 0
    assert found["saga_notices_channel_away", frozenset({event})] == 0
    assert found["saga_notices_age_seconds", frozenset({event})] < 60


async def test_requests_are_counted_by_route_and_never_by_address(measured: Measured) -> None:
    """As the conventions have it; a path that matches nothing is no series of its own."""
    for path in ("/nowhere/CANARY", f"/nowhere/{CANARY}"):
        assert (await measured.product.client.get(path)).status_code == 404
    found = await measured.scrape()
    name = "http_server_request_duration_seconds_count"
    labels = {"http_request_method": "POST", "url_scheme": "http", "http_response_status_code": "200"}
    assert total(found, name, http_route="/v1/tasks/{task_id}/decide", **labels) == 1
    unrouted = [dict(has) for (sample, has) in found if sample == name and "http_route" not in dict(has)]
    assert all(has["http_response_status_code"] == "404" for has in unrouted)
    assert total(found, name, http_response_status_code="404") >= 2


async def test_a_scrape_is_written_down_beside_the_event_loop(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some thousand lines take a while, in which nobody's approval is to wait."""
    threads: list[threading.Thread] = []

    def rendered(*given: Any) -> tuple[bytes, str]:
        threads.append(threading.current_thread())
        return render(*given)

    monkeypatch.setattr(wiring, "render", rendered)
    assert await measured.scrape()
    assert threads
    assert threading.main_thread() not in threads


async def test_loops_say_how_they_are(measured: Measured) -> None:
    """Every loop with a pulse, by name; the event loop's own lateness; sizes of batches."""
    found = await measured.scrape()
    loops = {dict(labels)["saga_loop_name"] for sample, labels in found if sample == "saga_loop_ready"}
    assert {"intake", "relay", "timers", "checks"} <= loops
    assert await measured.until("saga_event_loop_lag_seconds_count", 1) >= 1
    assert total(found, "saga_batch_size_count") > 0
    assert total(found, "saga_records_total") > 20
    assert ("saga_batch_conflicts_total", frozenset()) in found


async def test_names_and_labels_are_those_of_the_table_and_hold_no_data(measured: Measured) -> None:
    """Low cardinality: no id, no key, nobody's name, whatever traffic there was."""
    found = await measured.scrape()
    known = {prometheus_name(metric): metric for metric in BY_NAME.values()} | {"target_info": None}
    ids = set(measured.sagas.values())
    for sample, labels in found:
        stem = next(
            (s for s in (sample, *(sample.removesuffix(end) for end in ("_bucket", "_count", "_sum"))) if s in known),
            "",
        )
        assert stem, sample
        metric = known[stem]
        if metric is not None:
            allowed = {prometheus_label(name) for name in metric.attributes} | {"le"}
            assert {name for name, _ in labels} <= allowed, sample
        for _, text in labels:
            assert CANARY not in text
            assert not any(id in text for id in ids)


async def test_whoever_may_not_read_metrics_does_not(measured: Measured) -> None:
    """The API's route is one like all others: denied unless somebody may."""
    client = measured.product.client
    assert (await client.get("/metrics")).status_code in (401, 403)
    roles = {"X-Actor": "ada", "X-Actor-Roles": "operator"}
    answer = await client.get("/metrics", headers=roles)
    assert answer.status_code == 200
    assert "saga_started_total" in answer.text
    refused = await client.get("/metrics", headers={"X-Actor": "ap", "X-Actor-Roles": "approver"})
    assert refused.status_code == 403


async def test_the_listener_answers_one_path_and_changes_nothing(measured: Measured) -> None:
    """Anything else is refused in one line; OpenMetrics comes to whoever asks for it."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(measured.url.removesuffix("/metrics") + "/v1/sagas")).status_code == 404
        assert (await client.post(measured.url)).status_code == 405
        head = await client.head(measured.url)
        assert (head.status_code, head.content) == (200, b"")
        modern = await client.get(measured.url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert modern.headers["content-type"].startswith("application/openmetrics-text")
        assert modern.text.endswith("# EOF\n")


async def test_a_collector_gets_what_prometheus_reads(measured: Measured, collector: Receiver) -> None:
    """Same figures, same names and attributes before they are spelled for Prometheus; with unit and meaning."""
    await measured.until("saga_stuck", 1)
    await collector.next()
    request = await collector.next()
    found = points(request)
    (ended,) = [p for p in found["saga.ended"] if attributes(p)["saga.phase"] == "completed"]
    assert attributes(ended) == {"saga.name": "payout", "saga.phase": "completed", "saga.outcome": "completed"}
    assert ended.as_int == 1
    assert 0 < ended.start_time_unix_nano < ended.time_unix_nano
    (stuck,) = found["saga.stuck"]
    assert (stuck.as_int, attributes(stuck)) == (1, {"saga.name": "payout"})
    (took,) = [p for p in found["saga.duration"] if attributes(p)["saga.phase"] == "completed"]
    assert took.count == sum(took.bucket_counts) == 1
    assert tuple(took.explicit_bounds) == names.LONG
    assert not took.HasField("min")
    metrics = {m.name: m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics}
    for name, metric in metrics.items():
        assert (metric.unit, metric.description) == (BY_NAME[name].unit, BY_NAME[name].meaning)
    assert metrics["saga.ended"].sum.is_monotonic
    assert metrics["saga.ended"].sum.aggregation_temporality == AggregationTemporality.CUMULATIVE
    assert CANARY.encode() not in request.SerializeToString()


async def test_every_metric_of_the_table_is_really_there(measured: Measured, collector: Receiver) -> None:
    """A process with all roles emits all of them: no name that only the documentation knows."""
    await measured.until("saga_stuck", 1)
    collector.status = 400  # so that failures to export are counted too
    await measured.until("saga_metrics_export_failures_total", 1)
    collector.status = 200
    elsewhere = {KEYS_ASKED.name, KEYS_AWAY.name}  # only of participants that are lent their keys: tests/vault
    missing = wanted = set(BY_NAME) - elsewhere
    async with asyncio.timeout(60):
        while missing - {"messaging.client.operation.duration"}:
            missing = wanted - set(points(await collector.next()))
    assert missing == set()


async def test_the_standard_variables_are_obeyed(measured: Measured, collector: Receiver) -> None:
    """Headers, resource attributes, and the schema's address."""
    request = await collector.next()
    assert collector.headers[-1]["x-canary"] == HEADER
    (resource,) = request.resource_metrics
    about = attributes(resource.resource)
    assert about["service.name"] == "saga-orchestrator"
    assert about["service.namespace"] == "bank"
    assert about["service.instance.id"]
    assert resource.scope_metrics[0].schema_url == "https://opentelemetry.io/schemas/1.44.0"
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = (await client.get(measured.url)).text
    assert 'service_namespace="bank"' in next(line for line in text.splitlines() if line.startswith("target_info{"))


async def test_a_process_with_one_role_says_what_that_role_knows(measured: Measured) -> None:
    """A process of participants alone: its loops and messages, nothing of the database's survey, nothing of sagas."""
    runtime = measured.product.runtime
    settings = runtime.settings.model_copy(update={"instance_id": "another"})
    async with Runtime(settings, catalog=runtime.catalog, roles={"participants"}) as other:
        running = asyncio.create_task(other.run())
        one = Measured(measured.product, measured.database, url_of=other.metrics)
        await one.until("messaging_client_operation_duration_seconds_count", 1, messaging_operation_name="poll")
        found = await one.scrape()
        other.stop()
        await running
    groups = {dict(labels).get("messaging_consumer_group_name") for _, labels in found} - {None, ""}
    assert groups == {"participants.apitest-desk"}
    assert total(found, "saga_commands_handled_total") == 0
    assert ("saga_commands_handled_total", frozenset({PARTICIPANT, ("saga_outcome", "ok")})) in found
    names_found = {name for name, _ in found}
    assert {"saga_loop_ready", "target_info"} <= names_found
    assert not names_found & {"saga_survey_age_seconds", "saga_stuck", "saga_started_total", "saga_records_total"}


async def test_steps_have_the_same_name_in_every_figure_and_on_spans(measured: Measured) -> None:
    """Counted from a record or asked of the database: the step's name, without where it lies and which round it is."""
    admin = await asyncpg.connect(measured.database.admin_url)
    await admin.execute(
        """INSERT INTO tasks (opened_at, due, saga_id, activity, tenant, data)
           SELECT 1, clock_us() + 3600000000, saga_id, 'branches[2]/on/Refer a/b/lines[3]/check', tenant, '{}'
           FROM saga_heads WHERE saga_id = $1""",
        measured.sagas["stuck"],
    )
    await admin.close()
    assert await measured.until("saga_tasks_open", 1, saga_step_name="check") == 1
    assert low("branches[2]/on/Refer a/b/lines[3]/check") == "check"
