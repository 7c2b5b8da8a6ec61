"""A saga for the tests of notices: a purchase that people decide. `mood` says with which task."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel

from orchestrator import Escalate, Event, Key, Person, Role, Saga, fail, publish, task, when

CONTEXT = "noticetest"


class PurchaseAsked(Event, context=CONTEXT):
    """Starts the saga. mood: "" two votes · "slow" reminds and escalates within moments."""

    purchase_id: Key[str]
    requester: str
    secret: str = "Acme AG, 41,000 EUR"
    mood: str = ""


class PurchaseChanged(Event, context=CONTEXT):
    """What is to be decided changes."""

    purchase_id: Key[str]
    secret: str


class PurchaseDone(Event, context=CONTEXT):
    """The end."""

    purchase_id: Key[str]


class PurchaseToApprove(BaseModel):
    """What approvers see, and mails must not say."""

    secret: str


def requester(request: PurchaseAsked) -> Person:
    """Four eyes."""
    return Person(request.requester)


def slow(request: PurchaseAsked) -> bool:
    """Whether the task with a ladder is taken."""
    return request.mood == "slow"


@task(
    to=[Role("manager"), Person("maria"), Person("noel"), Person("ravi")],
    within=timedelta(hours=8),
    exclude=[requester],
    votes=2,
)
def buy(request: PurchaseAsked, changed: PurchaseChanged | None) -> PurchaseToApprove:
    """Look at the offer."""
    return PurchaseToApprove(secret=changed.secret if changed else request.secret)


@task(
    to=[Person("maria"), Person("noel")],
    within=timedelta(hours=8),
    remind=[timedelta(milliseconds=200)],
    escalate=[Escalate(after=timedelta(milliseconds=400), to=Role("director"))],
)
def slow_buy(request: PurchaseAsked) -> PurchaseToApprove:
    """Look at the offer, soon."""
    return PurchaseToApprove(secret=request.secret)


def done(request: PurchaseAsked) -> PurchaseDone:
    """At the end."""
    return PurchaseDone(purchase_id=request.purchase_id)


purchase = Saga(
    "purchase",
    version=1,
    starts_on=PurchaseAsked,
    flow=[
        when(slow, slow_buy.on_reject(fail("rejected"))).otherwise(
            buy.amend_on(PurchaseChanged).on_reject(fail("rejected"))
        ),
        publish(done),
    ],
)
