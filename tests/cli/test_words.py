"""A record in words: for every record that random sagas in a hostile world write."""

from __future__ import annotations

from random import Random

import pytest

from orchestrator.kernel.records import Record
from orchestrator.testing.exploring import run_schedule
from orchestrator.wording import WIDTH_MAX, in_words
from tests.kernel.flows import THEMES, scenario


@pytest.mark.parametrize("theme", THEMES)
def test_every_record_is_one_line_without_anything_internal(theme: str) -> None:
    """Braces, microseconds, tokens and kernel fields are for --json."""
    told = 0
    random = Random(theme)
    for drawn in filter(None, (scenario(random, theme) for _ in range(20))):
        for seed in range(2):
            for entry in run_schedule(drawn, seed).log:
                if isinstance(entry.what, Record):
                    said = in_words(entry.what.type, entry.what.data)
                    told += 1
                    assert len(said) <= WIDTH_MAX
                    assert "\n" not in said
                    assert "{" not in said, said
                    assert "'" not in said.replace("n't", ""), said
                    assert not any(word.isdigit() and len(word) == 16 for word in said.split()), said
    assert told > 100


@pytest.mark.parametrize(
    ("type_", "data", "said"),
    [
        (
            "step.requested",
            {"command": {"type": "shop.Charge", "participant": "payments", "body": {"amount": "79"}}, "attempt": 2,
             "due": 1_795_281_742_219_773, "at": 1, "pivot": False, "base": 0},
            "shop.Charge to payments, attempt 2, until 2026-11-21 17:22:22: amount 79",
        ),
        (
            "task.voted",
            {"vote": {"outcome": "reject", "by": "otto", "roles": ["manager"], "reason": "unknown", "hash": "ab"}},
            "reject by otto (manager): unknown",
        ),
        (
            "compensation.started",
            {"failure": {"kind": "failed", "step": "charge", "reason": "no money"}, "withdrawn": []},
            "failed at charge: no money",
        ),
        (
            "task.escalated",
            {"level": 2, "to": [{"role": "lead"}], "expires": 1_795_281_742_219_773},
            "level 2: asked of role lead, time until 2026-11-21 17:22:22",
        ),
        (
            "task.reassigned",
            {"to": [{"person": "ann"}], "by": "olga", "reason": "she knows it"},
            "asked of person ann by olga: she knows it",
        ),
        ("task.claimed", {"by": "max", "at": 1}, "by max"),
        ("task.released", {"by": "olga", "held_by": "max", "reason": "ill"}, "by olga, was held by max: ill"),
        (
            "task.delegated",
            {"by": "max", "to": "eve", "until": 1_795_281_742_219_773, "reason": ""},
            "eve may decide for max until 2026-11-21 17:22:22",
        ),
        ("task.delegated", {"by": "max", "to": "", "until": 0}, "nobody stands in for max any more"),
        ("task.commented", {"by": "max", "text": "odd", "replaces": 7}, "max rewrote: odd"),
        ("task.attached", {"by": "max", "title": "deed", "url": "https://x.example"}, "deed https://x.example by max"),
        ("undo.planned", {"plan": ["charge", "reserve"]}, "charge, then reserve"),
        ("something.new", {"what": {"a": 1, "b": [True, "x"]}, "takes": "+t"}, "what (a 1, b yes, x)"),
        ("something.new", {"due": 1_795_281_742_219_773, "base": 3}, "due 2026-11-21 17:22:22"),
        ("step.succeeded", {"result": {}, "gives": []}, ""),
        (
            "step.succeeded",
            {"result": {"name": "Ada", "due": 100, "by": "post", "tenant": "x"}, "gives": []},
            "name Ada, due 100, by post, tenant x",
        ),
    ],
)  # fmt: skip
def test_what_people_read(type_: str, data: dict[str, object], said: str) -> None:
    """In the order in which they ask: what, to whom, how often, until when."""
    assert in_words(type_, data) == said
