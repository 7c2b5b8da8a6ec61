"""The guide's table of metrics is the names file's."""

from __future__ import annotations

from pathlib import Path

from orchestrator.metrics.names import all_metrics, prometheus_name

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "metrics.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"
OF_THE_PRODUCT = "saga.in_flight"  # from here on in the names file: what the survey tells


def table() -> str:
    """The table as the names file has it."""
    lines = ["| metric | in Prometheus | kind | attributes | meaning |", "|---|---|---|---|---|"]
    product = False
    for metric in all_metrics():
        product = product or metric.name == OF_THE_PRODUCT
        unit = f", {metric.unit}"
        whose = "*product*: " if product and not metric.name.startswith("saga.metrics.") else ""
        attributes = ", ".join(f"`{name}`" for name in metric.attributes)
        name = f"`{metric.name}` | `{prometheus_name(metric)}`"
        lines.append(f"| {name} | {metric.kind}{unit} | {attributes} | {whose}{metric.meaning} |")
    return "\n".join(lines) + "\n"


def test_the_guide_lists_every_metric_as_it_is() -> None:
    """Name, name in Prometheus, kind, unit, attributes, meaning. Where this fails, put in what it shows."""
    shown = GUIDE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown == table()
