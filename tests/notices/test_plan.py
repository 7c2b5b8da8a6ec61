"""Who is told: every kind of record, from the words of the task to its recipients."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.notices.plan import KINDS, WHO_MAX, Beside, planned, voters_before
from orchestrator.store.contract import StoredRecord

TO = [{"role": "manager"}, {"person": "maria"}, {"person": "ravi"}]


def record(type_: str, activity: str = "lines[2]/manager_approval", **data: Any) -> StoredRecord:
    """A record of a task."""
    return StoredRecord("s", 5, type_, activity, data, "system", "", "s", "", 1_763_800_200_000_000, b"", b"", b"")


def beside(**changes: Any) -> Beside:
    """What is known beside it."""
    return Beside(**{"saga": "transfer", "business_key": "TR-1", "due": 77, **changes})


@pytest.mark.parametrize(
    ("type_", "data", "known", "expected"),
    [
        ("task.opened", {"to": TO, "excluded": ["ravi"]}, {}, ["role:manager", "person:maria"]),
        ("task.opened", {"to": TO}, {"task": {"votes": [{"by": "maria"}]}}, ["role:manager", "person:ravi"]),
        ("task.opened", {"to": TO}, {"task": {"earlier": ["maria"], "steered": ["ravi"]}}, ["role:manager"]),
        ("task.opened", {"to": TO}, {"is_open": False}, []),
        ("task.opened", {"to": [*TO, *TO]}, {}, ["role:manager", "person:maria", "person:ravi"]),
        ("task.escalated", {"to": [{"role": "director"}], "level": 1}, {}, ["role:director"]),
        ("task.escalated", {"to": [{"role": "director"}], "level": 1}, {"is_open": False}, []),
        ("task.reassigned", {"to": [{"person": "noel"}]}, {"task": {"excluded": ["noel"]}}, []),
        ("task.reassigned", {"to": [{"person": "noel"}]}, {}, ["person:noel"]),
        ("task.delegated", {"to": "noel"}, {}, ["person:noel"]),
        ("task.delegated", {"to": ""}, {}, []),
        ("task.reminded", {"at": 9}, {"task": {"to": TO, "excluded": ["ravi"]}}, ["role:manager", "person:maria"]),
        (
            "task.reminded",
            {"at": 9},
            {"task": {"to": [*TO, {"role": "director"}], "escalated": [{"at": 9, "to": [{"role": "director"}]}]}},
            ["role:manager", "person:maria", "person:ravi"],
        ),
        (
            "task.reminded",
            {"at": 9},
            {"task": {"to": [*TO, {"role": "director"}], "escalated": [{"at": 8, "to": [{"role": "director"}]}]}},
            ["role:manager", "person:maria", "person:ravi", "role:director"],
        ),
        ("task.amended", {}, {"voters": ["maria", "noel"]}, ["person:maria", "person:noel"]),
        ("task.decided", {"outcome": "approve"}, {"started_by": "person:ravi", "is_open": False}, ["person:ravi"]),
        ("task.decided", {"outcome": "approve"}, {"started_by": "service:shop"}, []),
        ("task.expired", {}, {"started_by": "person:ravi", "is_open": False}, ["person:ravi"]),
        ("task.expired", {}, {}, []),
    ],
)
def test_who_is_told(type_: str, data: dict[str, Any], known: dict[str, Any], expected: list[str]) -> None:
    """And nobody else."""
    assert list(planned(record(type_, **data), beside(**known), "s:x").who) == expected


def test_every_kind_is_among_the_examples() -> None:
    """A new kind must say whom it tells."""
    told = {case[0] for mark in test_who_is_told.pytestmark for case in mark.args[1]}
    assert told == set(KINDS)


def test_what_is_said_and_what_is_not() -> None:
    """The title in words, the process, the due time; nothing of what is shown, and a key only for those who may."""
    found = planned(record("task.opened", to=TO, shown={"iban": "DE00"}, expires=99), beside(), "s:x")
    assert found.facts == {
        "task": "s:x", "saga": "transfer", "business_key": "TR-1", "title": "Manager approval",
        "to": ["role:manager", "person:maria", "person:ravi"], "at": "2025-11-22T08:30:00.000000Z", "level": 0,
        "outcome": "",
    }  # fmt: skip
    assert (found.due, found.kind) == (77, "opened")
    assert planned(record("task.decided", outcome="approve"), beside(), "s:x").due == 0


def test_nobody_makes_a_notice_for_a_crowd() -> None:
    """Candidates are limited; a group has an address."""
    many = [{"person": f"p{n}"} for n in range(WHO_MAX + 50)]
    assert len(planned(record("task.opened", to=many), beside(), "s:x").who) == WHO_MAX


def test_who_had_voted_is_read_off_the_stream() -> None:
    """Since the last change, also for whom; other tasks of the saga do not count."""
    votes = [
        record("task.opened"),
        record("task.voted", vote={"by": "old"}),
        record("task.amended"),
        record("task.voted", vote={"by": "maria", "on_behalf_of": "anna"}),
        record("task.voted", activity="other", vote={"by": "noel"}),
        record("task.voted", vote={"by": "maria"}),
    ]
    assert voters_before(votes, "lines[2]/manager_approval") == ["maria", "anna"]
