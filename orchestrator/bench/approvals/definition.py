"""Wait for an approval, then act on it: as small as a saga with a person in it can be."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import Command, Done, Event, Key, Role, Saga, fail, pivot, step, task
from orchestrator.participants import Participant, Work

APPROVER_ROLE = "bench-approver"


class Wanted(Event, name="bench.Wanted"):
    """Somebody wants something that has to be approved."""

    wanted_id: Key[str]
    amount: str


class ToApprove(Event, name="bench.ToApprove"):
    """What the approver is shown."""

    wanted_id: Key[str]
    amount: str


class Carry(Command[Done], to="bench", name="bench.Carry"):
    """Carry out what was approved."""

    wanted_id: str


@task(to=Role(APPROVER_ROLE), within=timedelta(days=7))
def approval(wanted: Wanted) -> ToApprove:
    return ToApprove(wanted_id=wanted.wanted_id, amount=wanted.amount)


@step
def carry_out(wanted: Wanted) -> Carry:
    return Carry(wanted_id=wanted.wanted_id)


approved = Saga(
    "bench-approval",
    version=1,
    starts_on=Wanted,
    flow=[approval.on_reject(fail("rejected")).on_timeout(fail("expired")), pivot(carry_out)],
)

participant = Participant("bench")


@participant.handles(Carry)
async def carry(command: Carry, work: Work) -> Done:
    """Nothing but the answer, which is stored as every answer is."""
    return Done()
