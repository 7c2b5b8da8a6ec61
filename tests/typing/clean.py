"""What authors may write: both checkers accept every line, and infer the types that are asserted."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Any, assert_type

from orchestrator import (
    Context,
    Escalate,
    Limit,
    Money,
    Person,
    Retry,
    Role,
    Saga,
    Verdict,
    WorkingTime,
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
from orchestrator.definition import Call, Step, Task
from tests.typing.vocabulary import (
    DAY,
    Grade,
    GradeForm,
    OrderClosed,
    OrderPaid,
    OrderPlaced,
    Release,
    Reserve,
    Reserved,
    SendParcel,
    Shown,
    approval,
    closed,
    customer,
    grade_of,
    grading,
    is_large,
    parcel,
    release,
    reserve,
    send,
    size,
    text,
)

ORDER = OrderPlaced(order_id="o-1", customer="c-1", total=5)


class State(Enum):
    NEW = "new"
    SENT = "sent"


def deadline(context: Context) -> datetime:
    return context.now + DAY


def patience(order: OrderPlaced) -> timedelta:
    return timedelta(days=order.total)


def board(order: OrderPlaced) -> list[Role]:
    return [Role("board"), Role(order.customer)]


def voters(order: OrderPlaced) -> list[Person]:
    return [Person(order.customer)]


def lines(order: OrderPlaced) -> list[Shown]:
    return [Shown(total=order.total)]


def other_key(reserved: Reserved) -> str:
    return OrderPaid.key_of(reserved.reservation)


@step(retry=Retry(attempts=5), within=timedelta(seconds=5), undo=None)
def notify(order: OrderPlaced) -> Reserve:
    return Reserve(order_id=order.order_id)


@step(reads=True)
def look_up(order: OrderPlaced) -> Reserve:
    return Reserve(order_id=order.order_id)


@task(
    to=[Role("clerk"), Person("omar")],
    within=deadline,
    answer=GradeForm,
    exclude=[customer, voters, approval],
    votes=2,
    rejects=[Grade.BAD],
    escalate=[Escalate(after=DAY, to=Role("chief"))],
)
def marking(order: OrderPlaced) -> Shown:
    """Good or bad?"""
    return Shown(total=order.total)


def total(shown: Shown) -> Money:
    return Money(shown.total, "INR")


@task(
    to=Role("clerk"),
    within=WorkingTime(hours=8, calendar="IN-Mumbai"),
    amount=total,
    limits=[Limit(Role("clerk"), Money("100.50", "INR")), Limit(Person("omar"))],
    remind=[DAY, WorkingTime(minutes=30, calendar="always")],
    escalate=[Escalate(WorkingTime(hours=4, calendar="IN-Mumbai"), [Role("chief")], reset_sla=True)],
    catch_up="last",
)
def limited_approval(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(to=board, within=patience)
def board_approval(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


# Decorated functions stay what they were
assert_type(reserve(ORDER), Reserve)
assert_type(reserve(order=ORDER), Reserve)
assert_type(release(Reserved(reservation="r")), Release)
assert_type(approval(ORDER), Shown)
assert_type(send(ORDER), SendParcel)


def keeps_its_types(
    a: Step[[OrderPlaced], Reserve], b: Task[[OrderPlaced], Shown, Grade], c: Call[[OrderPlaced], SendParcel]
) -> None:
    """The names of parameters are part of a ParamSpec, so these are written with positional ones."""
    assert_type(a.on_refused(fail("no")), Step[[OrderPlaced], Reserve])
    assert_type(b.on(Grade.GOOD).on_timeout(), Task[[OrderPlaced], Shown, Grade])
    assert_type(pivot(a), Step[[OrderPlaced], Reserve])
    assert_type(pivot(c), Call[[OrderPlaced], SendParcel])


approval.on_approve().on_reject(fail("no")).on(Verdict.REJECT, fail("no"))
grading.on(Grade.GOOD, reserve).on(Grade.BAD, [reserve, end("bad")]).otherwise(notify)
choose(size).on("small", reserve).on(("large",), notify)
choose(grade_of).on([Grade.GOOD, Grade.BAD], reserve)
choose(is_large).on(True, reserve).otherwise()
assert_type(parcel, Saga[SendParcel])


@call(parcel)
def resend(order: OrderPlaced) -> SendParcel:
    return SendParcel(order_id=order.order_id)


refer = [notify.named("refer"), end("referred")]

order = Saga(
    "order",
    version=2,
    starts_on=OrderPlaced,
    within=timedelta(days=30),
    states={State.NEW: [State.SENT]},
    flow=[
        compute(text),
        look_up,
        scope(
            reserve.on_refused(*refer).on_exhausted(fail(text)).then(keep()),
            when(is_large, board_approval.on_reject(fail("rejected"))).otherwise(approval),
            within=DAY,
        )
        .on_timeout(refer)
        .on_failed(end("tried"))
        .on_event(OrderClosed, fail("closed")),
        parallel(notify, [delay(patience), marking.on(Grade.GOOD)]),
        for_each(lines, reserve.named("reserve_line"), at_once=3),
        repeat(
            notify.named("remind"),
            wait_for(OrderPaid, within=deadline, match=other_key, early=False).then(leave()).on_timeout(),
            at_most=3,
        ).otherwise(fail("unpaid")),
        when(Reserved, notify.named("again")),
        pivot(send),
        enter(State.SENT),
        publish(closed),
    ],
    on_failed=publish(closed).named("closed_after_all"),
)
several = Saga("several", version=1, starts_on=[OrderPlaced, SendParcel], flow=[end()], forward_only=True)
assert_type(several, Saga[Any])
