"""Dashboards and alerts against what the product really emits, in a real Prometheus."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator.metrics.names import all_metrics, prometheus_name
from tests.deploy.conftest import DEPLOY, Watched
from tests.deploy.prometheus_server import promtool

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULES = DEPLOY / "prometheus"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RUNBOOKS = DEPLOY.parent / "docs" / "guides" / "runbooks.md"
THRESHOLD = re.compile(r" (?:>|==) [0-9.]+(?= or |$)")
IN_TROUBLE = {"SagasStuck", "DeadLetters", "SlaBreached", "TasksNotExpired"}  # what the traffic has brought about

ALERTS = re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text())


def panels() -> list[Any]:
    """Every query of every panel, as (dashboard, panel, query)."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                found.append(pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}"))
    return found


def filled(query: str) -> str:
    """A query as Grafana would send it, with all sagas chosen."""
    return query.replace("$__rate_interval", "1m").replace("$saga", ".*")


@pytest.mark.parametrize("query", panels())
async def test_every_panel_shows_something(watched: Watched, query: str) -> None:
    """Its query is understood, and gives series of the running product."""
    assert await watched.prometheus.until(filled(query))


async def test_every_alert_looks_at_something_that_is_there(watched: Watched) -> None:
    """Without its threshold each gives series: an alert on a name that nobody emits would never fire."""
    rules = {rule["name"]: rule for rule in await watched.prometheus.rules()}
    assert sorted(rules) == sorted(ALERTS)
    assert {name: rule.get("lastError") for name, rule in rules.items() if rule["health"] == "err"} == {}
    for name, rule in rules.items():
        query = THRESHOLD.sub("", rule["query"].removeprefix("absent(saga_survey_age_seconds) or "))
        assert query != rule["query"], name
        assert await watched.prometheus.until(query), name


async def test_alerts_say_what_is_wrong_in_the_product_and_nothing_else(watched: Watched) -> None:
    """A stuck saga, a dead letter, an expired and an overdue task; the rest of the product is well."""
    found = {}
    for rule in await watched.prometheus.rules():
        found[rule["name"]] = [series["metric"] for series in await watched.prometheus.query(rule["query"])]
    # How busy the machine is that runs this decides about that one alone.
    assert {name for name, series in found.items() if series} - {"EventLoopSlow"} == IN_TROUBLE
    assert found["SagasStuck"] == [{"saga_name": "payout"}]
    assert found["DeadLetters"] == [{"saga_dead_letter_reason": "unreadable"}]
    assert found["SlaBreached"] == [{"saga_name": "payout", "saga_step_name": "approve"}]


# There only in a process that is in such a state: a collector that is away, participants that are lent their keys.
ELSEWHERE = {"saga_metrics_export_failures_total", "saga_keys_asked_total", "saga_keys_away"}


async def test_every_metric_of_the_product_is_stored_under_the_name_of_the_table(watched: Watched) -> None:
    """What Prometheus has is what the names file says."""
    for metric in all_metrics():
        name = prometheus_name(metric) + ("_count" if metric.kind == "histogram" else "")
        if name not in ELSEWHERE:
            assert await watched.prometheus.until(name), name


# --- without a product ------------------------------------------------------------------------------------------------


async def test_rules_and_configuration_are_what_prometheus_understands() -> None:
    """As promtool checks them."""
    for arguments in (("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml")):
        done = promtool(*arguments, cwd=RULES)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_alerts_fire_when_the_trouble_is_there_and_not_when_it_is_away() -> None:
    """Every alert of the file, in promtool's own unit tests."""
    tests = (RULES / "alerts_test.yml").read_text()
    assert {name for name in ALERTS if f'alertname="{name}"' not in tests} == set()
    done = promtool("test", "rules", "alerts_test.yml", cwd=RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("expression", ["vector(0) > 1", "vector(1)"])
async def test_an_alert_that_never_fires_or_always_does_is_noticed(expression: str, tmp_path: Path) -> None:
    """The unit tests can fail: one rule made blind, or made to cry always, and they do."""
    shutil.copy(RULES / "alerts_test.yml", tmp_path)
    rules = (RULES / "alerts.yml").read_text()
    assert "max(saga_outbox_age_seconds) > 30" in rules
    (tmp_path / "alerts.yml").write_text(rules.replace("max(saga_outbox_age_seconds) > 30", expression))
    assert promtool("test", "rules", "alerts_test.yml", cwd=tmp_path).returncode != 0


async def test_every_alert_has_its_runbook() -> None:
    """A section of its name, which says what it means, what to look at and what to do."""
    text = RUNBOOKS.read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(ALERTS) - set(sections) == set()
    for name in ALERTS:
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            assert part in sections[name], (name, part)
        assert f"runbooks.md#{name.lower()}" in (RULES / "alerts.yml").read_text()


def _build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", DEPLOY / "grafana" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dashboards", module)
    spec.loader.exec_module(module)
    return module


async def test_dashboards_are_what_their_source_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody edits the JSON by hand, and nobody forgets to write it: python deploy/grafana/build.py."""
    assert {path.name: path.read_text() for path in DASHBOARDS} == _build(monkeypatch).rendered()


async def test_dashboards_are_whole() -> None:
    """Own ids, panels that do not overlap, a source that can be chosen."""
    uids = []
    for path in DASHBOARDS:
        found = json.loads(path.read_text())
        uids.append(found["uid"])
        assert found["templating"]["list"][0]["type"] == "datasource"
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found["panels"]]
        assert len(places) == len(set(places))
        assert len({panel["id"] for panel in found["panels"]}) == len(places)
    assert len(uids) == len(set(uids)) == 5
