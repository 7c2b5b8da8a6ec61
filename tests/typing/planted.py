"""Mistakes that mypy and pyright must refuse: an error on every line with the marker, and on no other.

The module is never imported; what the checkers do not see here, the check at import would.
"""

from __future__ import annotations

from orchestrator import (
    Retry,
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
from tests.typing.vocabulary import (
    DAY,
    Colour,
    Grade,
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
    grade_of,
    grading,
    is_large,
    parcel,
    reserve,
    send,
    size,
    text,
)


# Steps and undos
@step  # planted: a step that builds no command
def asks_nobody(order: OrderPlaced) -> str:
    return order.order_id


@step(retry=Retry(attempts=2))  # planted: the same with options
def asks_nobody_patiently(order: OrderPlaced) -> Reserved:
    return Reserved(reservation=order.order_id)


@reserve.undo  # planted: an undo that builds no command
def forgets(reserved: Reserved) -> None:
    return None


@reserve.undo(within=DAY)  # planted: the same with options
def forgets_slowly(reserved: Reserved) -> Reserved:
    return reserved


@step(within=30)  # planted: a number where a timedelta is meant
def hurried(order: OrderPlaced) -> Reserve:
    return Reserve(order_id=order.order_id)


@step(retry=5)  # planted: a number where a Retry is meant
def stubborn(order: OrderPlaced) -> Reserve:
    return Reserve(order_id=order.order_id)


reserve.on_reject(fail("no"))  # planted: a task's word on a step
reserve(OrderPaid(order_id="1"))  # planted: a wrong argument of an ordinary call
reserve()  # planted: a missing argument of an ordinary call
released: Release = reserve(OrderPlaced(order_id="1", customer="c", total=1))  # planted: another command


# Tasks
@task(to=Role("manager"))  # planted: a task without a time limit
def unlimited(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(within=DAY)  # planted: a task for nobody
def unaddressed(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(to="manager", within=DAY)  # planted: a text where a Role or Person is meant
def misaddressed(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(to=Role("manager"), within=DAY, limits=["manager"])  # planted: a text where a Limit is meant
def misjudged(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(to=Role("manager"), within=DAY, amount=len)  # planted: an amount that is no Money
def unmeasured(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(to=Role("manager"), within=DAY, remind=[2])  # planted: a number where a duration is meant
def reminded(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(to=Role("manager"), within=DAY, catch_up="first")  # planted: a policy that there is not
def uncaught(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(to=Role("manager"), within=DAY)  # planted: what is shown is no model
def shows_text(order: OrderPlaced) -> str:
    return order.order_id


@task(to=Role("manager"), within=DAY, answer=Shown)  # planted: a form that is none
def formless(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


approval.on_refused(fail("no"))  # planted: a step's word on a task
approval.on(Grade.GOOD, fail("no"))  # planted: an outcome of another form
grading.on(Grade.GODO, fail("no"))  # planted: a misspelt outcome
grading.on_reject(fail("no"))  # planted: a plain approval's word on another form

# Conditions and choices
when(text, reserve)  # planted: a condition that gives no bool
choose(grade_of).on(Colour.RED, reserve)  # planted: a value of another enum
choose(size).on("medium", reserve)  # planted: a value that the Literal does not have
when(is_large, closed)  # planted: a plain function as a path

# Waiting and loops
wait_for(OrderPaid)  # planted: a wait without a limit
wait_for(Reserved, within=DAY)  # planted: a wait for what is no event
wait_for(OrderPaid, within=3600)  # planted: seconds where a timedelta is meant
delay(60)  # planted: seconds where a timedelta is meant
repeat(reserve)  # planted: a loop without a bound
for_each(is_large, reserve)  # planted: items that are no list
scope(reserve).on_event(Reserved, fail("no"))  # planted: an interruption by what is no event

# Pivot, events, life cycle, end
pivot(closed)  # planted: a plain function as a pivot
pivot(approval)  # planted: a task as a pivot
publish(text)  # planted: what is published is no event
enter("shipped")  # planted: a text where a state is meant
end("done", result=closed)  # planted: a result that is no reply
fail(is_large)  # planted: a reason that is no text
compute(closed(OrderPlaced(order_id="1", customer="c", total=1)))  # planted: a value where a function is meant
parallel(reserve, is_large)  # planted: a plain function as a branch


# Children and sagas
@call(parcel)  # planted: the child starts on something else
def misdirected(order: OrderPlaced) -> Reserve:
    return Reserve(order_id=order.order_id)


send.undo(forgets)  # planted: a call is undone by its child's plan
Saga("order", starts_on=OrderPlaced, flow=[reserve])  # planted: a saga without a version
Saga("order", version=1, starts_on=OrderPlaced, flow=[closed])  # planted: a plain function in a flow
Saga("order", version=1, starts_on="OrderPlaced", flow=[reserve])  # planted: a name where a contract is meant
Saga("order", version=1, starts_on=OrderPlaced, flow=[reserve], within=30)  # planted: a number of seconds
_ = (OrderClosed, SendParcel)
