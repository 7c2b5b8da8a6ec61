"""A claim saga as test data that uses every word of a flow, and a child saga of its own."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Literal

from pydantic import BaseModel

from orchestrator import (
    Command,
    Context,
    Decision,
    Done,
    Escalate,
    Event,
    Failure,
    Form,
    Key,
    Person,
    Reply,
    Role,
    Saga,
    call,
    choose,
    compute,
    delay,
    end,
    enter,
    fail,
    for_each,
    keep,
    leave,
    parallel,
    pivot,
    publish,
    repeat,
    scope,
    step,
    task,
    wait_for,
    when,
)

DAY = timedelta(days=1)


class ClaimFiled(Event):
    claim_id: Key[str]
    customer: str
    items: int


class ClaimPhoned(Event):
    claim_id: Key[str]
    caller: str


class ClaimWithdrawn(Event):
    claim_id: Key[str]


class ClaimChanged(Event):
    claim_id: Key[str]
    items: int


class PhotosSent(Event):
    claim_id: Key[str]
    count: int


class ItemAppraised(Event):
    claim_id: Key[str]
    item: Key[int]
    worth: int


class ClaimSettled(Event):
    claim_id: Key[str]
    amount: int


class ClaimClosed(Event):
    claim_id: Key[str]
    why: str


class FileOpened(Reply):
    file_id: str


class Blocked(Reply):
    block_id: str


class ReportMade(Reply):
    text: str


class Paid(Reply):
    reference: str


class OpenFile(Command[FileOpened], to="archive"):
    claim_id: str


class DiscardFile(Command[Done], to="archive"):
    file_id: str


class BlockItem(Command[Blocked], to="stock"):
    number: int


class UnblockItem(Command[Done], to="stock"):
    block_id: str


class AskForPhotos(Command[Done], to="mail"):
    claim_id: str


class MakeReport(Command[ReportMade], to="experts"):
    file_id: str


class PayOut(Command[Paid]):
    claim_id: Key[str]
    amount: int


class SendMoney(Command[Paid], to="payments"):
    claim_id: str
    amount: int


class Finding(Enum):
    FAIR = "fair"
    EXCESSIVE = "excessive"
    FRAUD = "fraud"


class Assessment(Form[Finding]):
    note: str = ""


class State(Enum):
    NEW = "new"
    OPEN = "open"
    SETTLED = "settled"
    CLOSED = "closed"


class Claim(BaseModel):
    claim_id: str
    customer: str
    items: int


class Item(BaseModel):
    number: int


class ToAssess(BaseModel):
    customer: str
    items: int


# The child: pays, and answers with the reference


@step(undo=None)
def send_money(order: PayOut) -> SendMoney:
    return SendMoney(claim_id=order.claim_id, amount=order.amount)


def money_sent(paid: Paid) -> Paid:
    return paid


payout = Saga("payout", version=3, starts_on=PayOut, flow=[pivot(send_money), end("paid", result=money_sent)])


# The claim


def claim(filed: ClaimFiled | ClaimPhoned) -> Claim:
    if isinstance(filed, ClaimFiled):
        return Claim(claim_id=filed.claim_id, customer=filed.customer, items=filed.items)
    return Claim(claim_id=filed.claim_id, customer=filed.caller, items=1)


def items(claim: Claim) -> list[Item]:
    return [Item(number=number) for number in range(claim.items)]


def item_key(claim: Claim, item: Item) -> str:
    return ItemAppraised.key_of(claim.claim_id, item.number)


def kind(claim: Claim) -> Literal["small", "large", "huge"]:
    return "small" if claim.items < 3 else "large"


def customer(claim: Claim) -> Person:
    return Person(claim.customer)


def seniors(claim: Claim) -> list[Role]:
    return [Role("senior")]


def next_monday(context: Context) -> datetime:
    return context.now + timedelta(days=7)


def amount(appraised: list[ItemAppraised], blocked: list[Blocked]) -> int:
    return sum(one.worth for one in appraised) + len(blocked)


@step
def open_file(claim: Claim) -> OpenFile:
    return OpenFile(claim_id=claim.claim_id)


@open_file.undo
def discard_file(opened: FileOpened, failure: Failure) -> DiscardFile:
    return DiscardFile(file_id=f"{opened.file_id} {failure.reason}")


@step
def block_item(item: Item) -> BlockItem:
    return BlockItem(number=item.number)


@block_item.undo
def unblock_item(blocked: Blocked) -> UnblockItem:
    return UnblockItem(block_id=blocked.block_id)


@step(undo=None)
def ask_for_photos(claim: Claim) -> AskForPhotos:
    return AskForPhotos(claim_id=claim.claim_id)


@step(reads=True)
def make_report(opened: FileOpened) -> MakeReport:
    return MakeReport(file_id=opened.file_id)


@task(
    to=Role("assessor"),
    within=2 * DAY,
    answer=Assessment,
    exclude=[customer],
    escalate=[Escalate(after=DAY, to=Role("senior"))],
)
def assessment(claim: Claim, changed: ClaimChanged | None) -> ToAssess:
    """Is the claim fair?"""
    return ToAssess(customer=claim.customer, items=changed.items if changed else claim.items)


@task(to=seniors, within=next_monday, exclude=[assessment], votes=2)
def release(claim: Claim, assessment: Decision[Assessment]) -> ToAssess:
    """Release the payment."""
    return ToAssess(customer=f"{claim.customer}: {assessment.answer.note}", items=claim.items)


@call(payout, within=DAY)
def pay(claim: Claim, amount: int) -> PayOut:
    return PayOut(claim_id=claim.claim_id, amount=amount)


def settled(claim: Claim, paid: Paid, amount: int) -> ClaimSettled:
    return ClaimSettled(claim_id=claim.claim_id, amount=amount)


def closed(claim: Claim | None, failure: Failure) -> ClaimClosed:
    return ClaimClosed(claim_id=claim.claim_id if claim else "", why=failure.reason)


def refused(claim: Claim) -> ClaimClosed:
    return ClaimClosed(claim_id=claim.claim_id, why="refused")


to_police = [publish(refused).named("to_police"), end("fraud")]

claims = Saga(
    "claim",
    version=1,
    starts_on=[ClaimFiled, ClaimPhoned],
    within=timedelta(days=90),
    rerun=True,
    states={State.NEW: [State.OPEN, State.CLOSED], State.OPEN: [State.SETTLED, State.CLOSED]},
    flow=[
        compute(claim),
        enter(State.OPEN),
        scope(
            open_file.on_refused(publish(refused), end("no file")),
            parallel(
                repeat(
                    ask_for_photos,
                    wait_for(PhotosSent, within=DAY, since=ask_for_photos).on_timeout(delay(DAY)).then(leave()),
                    at_most=3,
                ).otherwise(),
                [make_report.on_exhausted(), delay(timedelta(hours=1)).named("cool_down")],
            ),
            for_each(
                items,
                scope(block_item, keep()).on_failed(),
                wait_for(ItemAppraised, match=item_key, within=DAY).on_timeout(),
                at_once=4,
            ),
            within=timedelta(days=30),
        )
        .on_event(ClaimWithdrawn, fail("withdrawn"))
        .on_timeout(fail("too slow"))
        .on_failed(publish(closed).named("gave_up"), end("given up")),
        compute(amount),
        choose(kind).on("small", publish(refused).named("small_notice")).otherwise(),
        assessment.on(Finding.FAIR).on(Finding.FRAUD, to_police).otherwise(fail("excessive")).amend_on(ClaimChanged),
        when(ReportMade, release.on_reject(fail("not released")).on_event(ClaimWithdrawn, fail("withdrawn late"))),
        pivot(pay),
        enter(State.SETTLED),
        publish(settled),
    ],
    on_failed=[publish(closed), enter(State.CLOSED)],
)
