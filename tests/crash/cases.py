"""Disputes in the storm: how each case is meant to go, what people say in it, and what must be true of it afterwards.

Rules of this file
- What a case is for follows from the number in its key, so that whoever looks at a task knows what to say.
- A case of "nobody" has seconds, and its branch manager votes just when the time is over: either the vote counts or
  the case has expired, and the answer to the vote must agree with the stream, the case table and the letters.
- Money: what was paid back is what the last vote said, of the amount in dispute, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orchestrator.store.contract import StoredRecord

SAGA = "dispute"
SOON_HOURS = 0.0008  # 2.9 s
TIMES = {"Urgent": {"acknowledge": SOON_HOURS, "branch": SOON_HOURS}, "High": {"acknowledge": SOON_HOURS}}
LATE_VOTE_SECONDS = (1.5, 4.0)  # around the end of the branch manager's time
CUSTOMER, MANAGER = "CUST00012", "rosa"
AMOUNT, PERCENT = Decimal("4250.00"), 20
PAID_BACK = "Partial Refund"
REFERRED = "Refer to Ombudsman"
GOOD = (
    "The account statement and the merchant's receipt show that the terminal timed out and both payments were booked; "
    "therefore this part of the amount is refunded."
)
BAD = "Closed."  # fails the compliance check


@dataclass(frozen=True, slots=True)
class Course:
    """How a case is meant to go. `manager`: what the manager says, round after round; `last`: who comes after."""

    priority: str
    manager: tuple[tuple[str, str], ...] = ()
    last: str = "Resolved"


COURSES = (
    Course("Urgent"),  # nobody takes it on
    Course("High", last=REFERRED),
    Course("High", last=PAID_BACK),
    Course("Medium", (("Resolved", GOOD),)),
    Course("Medium", ((PAID_BACK, BAD), (PAID_BACK, GOOD))),
    Course("Medium", (("Resolved", BAD), (PAID_BACK, BAD)), last=PAID_BACK),
    Course("Low", (("Escalate", GOOD),), last=REFERRED),
    Course("Low", ((PAID_BACK, GOOD),)),
)


def course(key: str) -> Course:
    """That of a case, by the number at the end of its key."""
    return COURSES[int(key.rpartition("-")[2]) % len(COURSES)]


def body(key: str) -> dict[str, Any]:
    """What the customer sends."""
    return {
        "doc_id": key, "customer_id": CUSTOMER, "rm_email": f"{MANAGER}@bank.example", "dispute_amount": str(AMOUNT),
        "case_summary": "The merchant took the card payment twice at the terminal.", "priority": course(key).priority,
    }  # fmt: skip


def is_late(task: Mapping[str, Any]) -> bool:
    """A vote on this task comes at about the moment when its time is over."""
    shown = task["shown"]
    return task["activity"].endswith("branch_ruling") and course(shown["doc_id"]).priority == "Urgent"


def vote(task: Mapping[str, Any]) -> tuple[str, str, str, dict[str, Any]]:
    """Who decides a task of a case, with which role, and what: (person, role, outcome, form)."""
    name, shown = task["activity"].rpartition("/")[2], task["shown"]
    planned = course(shown["doc_id"])
    if name == "manager_decision":
        outcome, rationale = planned.manager[len(shown["earlier"])]
        who, role = MANAGER, "approver"
    else:
        outcome, rationale = planned.last, GOOD
        who, role = ("silas", "senior-reviewer") if name == "senior_review" else ("bruno", "approver")
    form = {"rationale": rationale, "refund_percent": PERCENT}
    return who, role, outcome, form


def flaws(
    cases: Mapping[str, Mapping[str, Any]],
    streams: Mapping[str, Sequence[StoredRecord]],
    ends: Counter[tuple[str, str]],
) -> Iterator[str]:
    """What is wrong. `cases`: rows of the case desk; `streams`: by case; `ends`: (event, case) on the log."""
    yield from (f"the case desk knows {key}, and there is no saga" for key in cases.keys() - streams.keys())
    for key, stream in streams.items():
        row = cases.get(key)
        if row is None:
            yield f"dispute {key} has ended, and the case desk knows nothing of it"
            continue
        decided = [record.data for record in _of(stream, "task.decided")]
        votes = [(data["outcome"], data["decision"]["by"]["id"]) for data in decided]
        last, by = votes[-1] if votes else (REFERRED, "")
        if _of(stream, "task.expired"):
            last = REFERRED  # only the branch manager's time is short here, and after it nobody is asked
        referred = last == REFERRED
        refund = AMOUNT * PERCENT / 100 if last == PAID_BACK else Decimal(0)
        wanted = ("Referred to Ombudsman" if referred else "Closed", refund, "" if referred else by)
        if (row["status"], row["refund"], row["decided_by"]) != wanted:
            yield f"dispute {key} was decided {votes}, but the case table says {dict(row)}"
        if (row["paid"], row["payments"]) != (refund, int(refund > 0)):
            yield f"dispute {key} was decided {votes}, but {row['paid']} was paid back in {row['payments']} payments"
        if (row["letters"], row["notifications"], row["to_regulator"]) != (1, int(referred), int(referred)):
            yield f"dispute {key} is {row['status']}, but its letters and notifications are {dict(row)}"
        event = "disputes.dispute_referred" if referred else "disputes.dispute_closed"
        told = {name: count for (name, case), count in ends.items() if case == key}
        if told != {event: 1}:
            yield f"dispute {key} is {row['status']}, but the world was told {told}"


def _of(stream: Sequence[StoredRecord], type_: str) -> list[StoredRecord]:
    return [record for record in stream if record.type == type_]
