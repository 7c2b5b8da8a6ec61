"""Writes the dashboards: `python deploy/grafana/build.py`. A test compares what lies here with what this would write.

Rules of this file
- A panel is a title, a unit and its queries; what it means stands in its description. Layout follows from order.
- A query names metrics as Prometheus does, the same for figures that were scraped and those that came over OTLP.
- What concerns the whole product is told by several processes with the same numbers: max, never sum.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent / "dashboards"
COLUMNS, WIDTH, HEIGHT = 3, 8, 8
RATE = "[$__rate_interval]"
SAGA = 'saga_name=~"$saga"'


@dataclass(frozen=True)
class Panel:
    """One chart. `queries`: (expression, legend)."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    about: str = ""


def quantile(q: float, metric: str, by: str, labels: str = "") -> str:
    """A percentile of a histogram."""
    chosen = f"{{{labels}}}" if labels else ""
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({metric}_bucket{chosen}{RATE})))"


def per_second(metric: str, by: str, labels: str = "") -> str:
    """How often."""
    chosen = f"{{{labels}}}" if labels else ""
    return f"sum by ({by}) (rate({metric}{chosen}{RATE}))"


SAGAS = [
    Panel("Started", "ops", [(per_second("saga_started_total", "saga_name", SAGA), "{{saga_name}}")]),
    Panel(
        "Ended",
        "ops",
        [(per_second("saga_ended_total", "saga_phase, saga_outcome", SAGA), "{{saga_phase}} {{saga_outcome}}")],
        "Completed with its outcome, or compensated with what made it turn back.",
    ),
    Panel(
        "Completed, of all that ended",
        "percentunit",
        [
            (
                f'sum(rate(saga_ended_total{{{SAGA}, saga_phase="completed"}}{RATE})) '
                f"/ sum(rate(saga_ended_total{{{SAGA}}}{RATE}))",
                "completed",
            )
        ],
    ),
    Panel(
        "In flight",
        "short",
        [(f"max by (saga_name) (saga_in_flight{{{SAGA}}})", "{{saga_name}}")],
        "Begun and not ended, those that wait for people too; counted up to 50,000 of each.",
    ),
    Panel(
        "Stuck",
        "short",
        [(f"max by (saga_name) (saga_stuck{{{SAGA}}})", "{{saga_name}}")],
        "Only a person can move these. Runbook: SagasStuck.",
    ),
    Panel(
        "Places that stopped, by cause",
        "ops",
        [(per_second("saga_stops_total", "saga_name, saga_stuck_cause", SAGA), "{{saga_name}} {{saga_stuck_cause}}")],
    ),
    Panel(
        "From start to end",
        "s",
        [
            (quantile(0.5, "saga_duration_seconds", "saga_name", SAGA), "{{saga_name}} half"),
            (quantile(0.95, "saga_duration_seconds", "saga_name", SAGA), "{{saga_name}} 95 of 100"),
        ],
    ),
    Panel(
        "Steps, 95 of 100",
        "s",
        [
            (
                quantile(0.95, "saga_step_duration_seconds", "saga_name, saga_step_name", SAGA),
                "{{saga_name}} {{saga_step_name}}",
            )
        ],
        "From the first command to a definite answer, with all attempts.",
    ),
    Panel(
        "Attempts that failed",
        "ops",
        [
            (
                per_second("saga_step_failures_total", "saga_name, saga_step_name, saga_outcome", SAGA),
                "{{saga_name}} {{saga_step_name}} {{saga_outcome}}",
            )
        ],
    ),
    Panel(
        "Turned back",
        "ops",
        [
            (
                per_second("saga_turned_back_total", "saga_name, saga_failure_kind", SAGA),
                "{{saga_name}} {{saga_failure_kind}}",
            )
        ],
        "refused, failed, cancelled and parent are business; the others are ours.",
    ),
    Panel(
        "Undone",
        "ops",
        [
            (
                per_second("saga_undos_total", "saga_name, saga_step_name, saga_outcome", SAGA),
                "{{saga_name}} {{saga_step_name}} {{saga_outcome}}",
            )
        ],
    ),
    Panel(
        "Acts of operators",
        "ops",
        [
            (
                per_second("saga_operator_acts_total", "saga_name, saga_operator_act", SAGA),
                "{{saga_name}} {{saga_operator_act}}",
            )
        ],
    ),
]

FLOW = [
    Panel("Intake behind the database's clock", "s", [("max(saga_intake_lag_seconds)", "lag")], "Timers wait for it."),
    Panel("Messages not processed yet", "short", [("sum by (instance) (saga_intake_behind)", "{{instance}}")]),
    Panel("Intake pauses", "short", [("max by (instance) (saga_intake_paused)", "{{instance}}")]),
    Panel(
        "Consumed",
        "ops",
        [
            (
                per_second("messaging_client_consumed_messages_total", "messaging_destination_name"),
                "{{messaging_destination_name}}",
            )
        ],
    ),
    Panel(
        "Processed within, 95 of 100",
        "s",
        [
            (
                quantile(0.95, "messaging_process_duration_seconds", "messaging_destination_name"),
                "{{messaging_destination_name}}",
            )
        ],
    ),
    Panel(
        "Inputs of a transaction",
        "short",
        [(f"sum(rate(saga_batch_size_sum{RATE})) / sum(rate(saga_batch_size_count{RATE}))", "mean")],
    ),
    Panel(
        "Outbox",
        "short",
        [("max(saga_outbox_depth)", "not on the broker"), ("sum(saga_relay_waiting)", "in relays' memory")],
    ),
    Panel("Oldest message in the outbox", "s", [("max(saga_outbox_age_seconds)", "age")]),
    Panel(
        "Sent",
        "ops",
        [
            (
                per_second("messaging_client_sent_messages_total", "messaging_destination_name, error_type"),
                "{{messaging_destination_name}} {{error_type}}",
            )
        ],
    ),
    Panel(
        "Calls of the broker, 95 of 100",
        "s",
        [
            (
                quantile(0.95, "messaging_client_operation_duration_seconds", "messaging_operation_name"),
                "{{messaging_operation_name}}",
            )
        ],
        "An idle poll waits: its time is no trouble.",
    ),
    Panel(
        "Swept and refused",
        "ops",
        [
            (f"sum(rate(saga_relay_swept_total{RATE}))", "by way of the table"),
            (f"sum(rate(saga_relay_refused_total{RATE}))", "refused for good"),
        ],
    ),
    Panel(
        "Dead letters that wait",
        "short",
        [("max by (saga_dead_letter_reason) (saga_dead_letters_waiting)", "{{saga_dead_letter_reason}}")],
    ),
    Panel(
        "Dead letters kept",
        "ops",
        [(per_second("saga_dead_letters_kept_total", "saga_dead_letter_reason"), "{{saga_dead_letter_reason}}")],
    ),
    Panel("Early events", "short", [("max(saga_early_events_waiting)", "kept")]),
    Panel("Lateness of timers", "s", [("max(saga_timer_lateness_seconds)", "the latest")]),
    Panel(
        "Decided again, commits asked for",
        "ops",
        [
            (f"sum(rate(saga_batch_conflicts_total{RATE}))", "conflicts"),
            (f"sum(rate(saga_batch_unknown_commits_total{RATE}))", "unknown commits"),
        ],
    ),
    Panel("Records", "ops", [(f"sum by (instance) (rate(saga_records_total{RATE}))", "{{instance}}")]),
    Panel("Timers fired", "ops", [(f"sum by (instance) (rate(saga_timers_fired_total{RATE}))", "{{instance}}")]),
]

TASK = "saga_name, saga_step_name"
PEOPLE = [
    Panel(
        "Open",
        "short",
        [
            (
                f"max by ({TASK}, saga_task_state) (saga_tasks_open{{{SAGA}}})",
                "{{saga_name}} {{saga_step_name}} {{saga_task_state}}",
            )
        ],
    ),
    Panel(
        "Overdue for",
        "s",
        [("max(saga_tasks_overdue_age_seconds)", "the longest")],
        "More than moments: timers do not act. Runbook: TasksNotExpired.",
    ),
    Panel("Opened", "ops", [(per_second("saga_tasks_opened_total", TASK, SAGA), "{{saga_name}} {{saga_step_name}}")]),
    Panel(
        "Closed",
        "ops",
        [
            (
                per_second("saga_tasks_closed_total", f"{TASK}, saga_outcome", SAGA),
                "{{saga_name}} {{saga_step_name}} {{saga_outcome}}",
            )
        ],
    ),
    Panel(
        "Decided in time, last 24 hours",
        "percentunit",
        [
            (
                f'sum by (saga_name) (increase(saga_tasks_closed_total{{{SAGA}, saga_outcome="decided"}}[24h])) '
                f"/ sum by (saga_name) (increase(saga_tasks_closed_total{{{SAGA}}}[24h]))",
                "{{saga_name}}",
            )
        ],
        "The target is 99 of 100. Exact figures, also of the past, are in the back office.",
    ),
    Panel(
        "Escalated",
        "ops",
        [(per_second("saga_tasks_escalated_total", TASK, SAGA), "{{saga_name}} {{saga_step_name}}")],
    ),
    Panel(
        "Time to a decision",
        "s",
        [
            (quantile(0.5, "saga_task_duration_seconds", TASK, SAGA), "{{saga_name}} {{saga_step_name}} half"),
            (quantile(0.95, "saga_task_duration_seconds", TASK, SAGA), "{{saga_name}} {{saga_step_name}} 95 of 100"),
        ],
    ),
]
PEOPLE += [
    Panel(
        "Notices, by what became of them",
        "ops",
        [
            (
                per_second("saga_notices_settled_total", "saga_notice_channel, saga_outcome"),
                "{{saga_notice_channel}} {{saga_outcome}}",
            )
        ],
        "retried: tried in vain, and again later. failed: given up, for a person to see. Runbook: NoticesFailed.",
    ),
    Panel(
        "Notices that wait",
        "short",
        [
            ("max by (saga_notice_channel) (saga_notices_waiting)", "{{saga_notice_channel}}"),
            ("max by (saga_notice_channel) (saga_notices_channel_away)", "{{saga_notice_channel}} cannot be reached"),
        ],
        "Those that wait for their hour or their digest too.",
    ),
    Panel(
        "Oldest notice that should be out",
        "s",
        [("max by (saga_notice_channel) (saga_notices_age_seconds)", "{{saga_notice_channel}}")],
        "Runbook: NoticesLate.",
    ),
    Panel(
        "Attempts to send, 95 of 100",
        "s",
        [(quantile(0.95, "saga_notice_duration_seconds", "saga_notice_channel"), "{{saga_notice_channel}}")],
    ),
    Panel(
        "From planning to sending, 95 of 100",
        "s",
        [(quantile(0.95, "saga_notice_wait_seconds", "saga_notice_channel"), "{{saga_notice_channel}}")],
        "Quiet hours and digests are in it.",
    ),
]

GROUP = 'messaging_consumer_group_name=~"participants[.].*"'
PARTICIPANTS = [
    Panel(
        "Commands answered",
        "ops",
        [
            (
                per_second("saga_commands_handled_total", "saga_participant_name, saga_outcome"),
                "{{saga_participant_name}} {{saga_outcome}}",
            )
        ],
        "again: the command had come before, and got the stored answer.",
    ),
    Panel(
        "Time per command, 95 of 100",
        "s",
        [
            (
                quantile(0.95, "messaging_process_duration_seconds", "messaging_destination_name", GROUP),
                "{{messaging_destination_name}}",
            )
        ],
    ),
    Panel(
        "Answered with an error",
        "percentunit",
        [
            (
                f'sum by (saga_participant_name) (rate(saga_commands_handled_total{{saga_outcome="error"}}{RATE})) '
                f"/ sum by (saga_participant_name) (rate(saga_commands_handled_total{RATE}))",
                "{{saga_participant_name}}",
            )
        ],
    ),
    Panel(
        "Commands read",
        "ops",
        [
            (
                per_second("messaging_client_consumed_messages_total", "messaging_destination_name", GROUP),
                "{{messaging_destination_name}}",
            )
        ],
    ),
]

LOOPS = [
    Panel(
        "Not ready", "short", [("count by (saga_loop_name) (saga_loop_ready == 0) or vector(0)", "{{saga_loop_name}}")]
    ),
    Panel(
        "Since the last progress",
        "s",
        [("max by (instance, saga_loop_name) (saga_loop_age_seconds)", "{{instance}} {{saga_loop_name}}")],
    ),
    Panel(
        "The event loop is late, 99 of 100",
        "s",
        [(quantile(0.99, "saga_event_loop_lag_seconds", "instance"), "{{instance}}")],
    ),
    Panel(
        "Read models behind",
        "s",
        [("max by (saga_projection_name) (saga_projection_lag_seconds)", "{{saga_projection_name}}")],
    ),
    Panel(
        "Records that read models lack",
        "short",
        [("max by (saga_projection_name) (saga_projection_behind)", "{{saga_projection_name}}")],
    ),
    Panel(
        "Read models stopped",
        "short",
        [("max by (saga_projection_name) (saga_projection_stopped)", "{{saga_projection_name}}")],
    ),
    Panel(
        "Records without a signed checkpoint, for",
        "s",
        [
            ("max(saga_checkpoint_age_seconds)", "not signed"),
            (
                "max by (saga_checkpoint_place) (saga_checkpoint_publish_lag_seconds)",
                "not in {{saga_checkpoint_place}}",
            ),
        ],
    ),
    Panel(
        "HTTP requests",
        "ops",
        [
            (
                per_second(
                    "http_server_request_duration_seconds_count", "http_request_method, http_response_status_code"
                ),
                "{{http_request_method}} {{http_response_status_code}}",
            )
        ],
        "Runbook: HttpErrors.",
    ),
    Panel(
        "HTTP, 95 of 100",
        "s",
        [(quantile(0.95, "http_server_request_duration_seconds", "http_route"), "{{http_route}}")],
        "A stream of news to a page lasts as long as the page is open.",
    ),
    Panel("States in memory", "short", [("saga_cache_sagas", "{{instance}}")]),
    Panel("Acts that wait", "short", [("saga_acts_waiting", "{{instance}}")]),
    Panel(
        "Starts refused",
        "ops",
        [(per_second("saga_starts_refused_total", "saga_admission_signal"), "{{saga_admission_signal}}")],
    ),
    Panel(
        "The database answers for these",
        "s",
        [("max(saga_survey_duration_seconds)", "takes"), ("min(saga_survey_age_seconds)", "age")],
    ),
    Panel(
        "Exports that no collector took",
        "ops",
        [(f"sum by (instance) (rate(saga_metrics_export_failures_total{RATE}))", "{{instance}}")],
    ),
    Panel(
        "Spans",
        "ops",
        [
            (per_second("saga_spans_sent_total", "saga_spans_source"), "sent, {{saga_spans_source}}"),
            (per_second("saga_spans_lost_total", "saga_spans_source"), "lost, {{saga_spans_source}}"),
        ],
    ),
    Panel(
        "Processes",
        "short",
        [("count by (service_version, saga_roles) (target_info)", "{{saga_roles}} {{service_version}}")],
    ),
]

DASHBOARDS = {
    "sagas": ("Sagas", SAGAS),
    "flow": ("Intake, outbox and timers", FLOW),
    "people": ("People and their time", PEOPLE),
    "participants": ("Participants", PARTICIPANTS),
    "loops": ("Processes and read models", LOOPS),
}


def dashboard(uid: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    """One dashboard as Grafana imports it."""
    return {
        "uid": f"saga-{uid}",
        "title": title,
        "tags": ["saga-orchestrator"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables(panels))},
        "links": [
            {"type": "dashboards", "tags": ["saga-orchestrator"], "title": "Saga orchestrator", "asDropdown": True}
        ],
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _variables(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    if any("$saga" in query for panel in panels for query, _ in panel.queries):
        yield {
            "name": "saga",
            "type": "query",
            "label": "Saga",
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": {"query": "label_values(saga_started_total, saga_name)", "refId": "saga"},
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "gridPos": {"x": number % COLUMNS * WIDTH, "y": number // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"drawStyle": "line", "fillOpacity": 10}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": source, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }


def rendered() -> dict[str, str]:
    """File names and what is in them."""
    return {
        f"{uid}.json": json.dumps(dashboard(uid, title, panels), indent=1) + "\n"
        for uid, (title, panels) in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for name, text in rendered().items():
        (HERE / name).write_text(text)
