"""The participants of disputes: case_ai asks the model (or the rules), case_desk writes down, pays and writes letters.

case_ai only reads, so whatever it is asked may be asked again. All that case_desk does is rows of its own schema, in
the transaction of the command: letters and notifications lie there until `post.py` delivers them.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from events.disputes import (
    AssignManager,
    CaseClassified,
    CaseRecorded,
    CheckCompliance,
    ClassifyCase,
    CloseCase,
    ComplianceChecked,
    ManagerAssigned,
    NotifyCustomer,
    NotifyRegulator,
    PayRefund,
    ReferCase,
    RefundPaid,
    RegulatorNotified,
)
from orchestrator import Done, Refused
from orchestrator.participants import Participant, Work, load_queries
from sagas.disputes.ai.engine import engine_of
from sagas.disputes.ai.rules import RulesEngine
from sagas.disputes.letters import to_customer, to_regulator
from sagas.disputes.settings import dispute_settings

SQL = load_queries("sagas.disputes", "cases.sql")
MODEL_LIMIT = timedelta(seconds=40)  # shorter than the step's time, so that an answer is still heard

case_ai = Participant("case_ai")
case_desk = Participant("case_desk", migrations=Path(__file__).parent / "migrations" / "case_desk")
engine = engine_of(dispute_settings())
rules = RulesEngine()


# --- the model --------------------------------------------------------------------------------------------------------


@case_ai.handles(ClassifyCase, reads=True, outside=True, limit=MODEL_LIMIT)
async def classify(command: ClassifyCase, work: Work) -> CaseClassified:
    """What a complaint is about; by the rules, where the saga has waited for the model long enough."""
    return await (rules if command.by_rules else engine).classify(command, work.time_left())


@case_ai.handles(CheckCompliance, reads=True, outside=True, limit=MODEL_LIMIT)
async def check(command: CheckCompliance, work: Work) -> ComplianceChecked:
    """Whether a rationale may be given to a regulator."""
    return await engine.check(command, work.time_left())


# --- the case desk ----------------------------------------------------------------------------------------------------


@case_desk.handles(AssignManager)
async def assign(command: AssignManager, work: Work) -> ManagerAssigned:
    """Finds out who looks after the case, and opens it."""
    found = await work.connection.fetchrow(SQL["assignment"], command.rm_email)
    assert found is not None, "one branch is always on duty"
    await work.connection.execute(
        SQL["open_case"],
        work.tenant,
        command.doc_id,
        command.customer_id,
        found["manager"],
        found["branch"],
        command.dispute_amount,
        command.currency,
        command.priority.value,
        command.category.value,
        command.severity.value,
        work.now,
    )
    return ManagerAssigned(
        manager=found["manager"],
        branch=found["branch"],
        branch_manager=found["branch_manager"],
        stand_in=found["stand_in"],
    )


@case_desk.handles(PayRefund)
async def refund(command: PayRefund, work: Work) -> RefundPaid:
    """Pays back, once per case."""
    refund_id = f"F-{uuid5(NAMESPACE_URL, work.tenant + work.key)}"
    row = (refund_id, work.key, work.tenant, command.doc_id, command.amount, command.currency, work.now)
    await work.connection.execute(SQL["pay_refund"], *row)
    return RefundPaid(refund_id=refund_id)


@case_desk.handles(CloseCase)
async def close(command: CloseCase, work: Work) -> CaseRecorded:
    """Status, resolution, closed date."""
    said = (command.resolution, command.rationale, command.refund, command.decided_by)
    closed = await work.connection.fetchval(SQL["close_case"], work.tenant, command.doc_id, *said, work.now)
    if closed is None:
        raise Refused("not_open", command.doc_id)
    return CaseRecorded(recorded_at=work.now)


@case_desk.handles(ReferCase)
async def refer(command: ReferCase, work: Work) -> CaseRecorded:
    """The case is the Ombudsman's now."""
    if await work.connection.fetchval(SQL["refer_case"], work.tenant, command.doc_id, command.reason, work.now) is None:
        raise Refused("not_open", command.doc_id)
    return CaseRecorded(recorded_at=work.now)


@case_desk.handles(NotifyRegulator)
async def notify(command: NotifyRegulator, work: Work) -> RegulatorNotified:
    """A notification with a number of its own, and the letter that carries it."""
    number = str(await work.connection.fetchval(SQL["next_notification"]))
    letter = await _write(work, "regulator", command.doc_id, *to_regulator(command, number))
    what = (command.category.value, command.severity.value, command.dispute_amount, command.currency, command.reason)
    await work.connection.execute(SQL["notify"], number, letter, work.tenant, command.doc_id, *what, work.now)
    return RegulatorNotified(notification_id=number)


@case_desk.handles(NotifyCustomer)
async def tell(command: NotifyCustomer, work: Work) -> Done:
    """A letter in plain words."""
    await _write(work, "customer", command.doc_id, *to_customer(command))
    return Done()


async def _write(work: Work, recipient: str, doc_id: str, subject: str, body: str) -> str:
    letter = f"L-{uuid5(NAMESPACE_URL, work.tenant + work.key)}"
    await work.connection.execute(SQL["write_letter"], letter, recipient, work.tenant, doc_id, subject, body, work.now)
    return letter
