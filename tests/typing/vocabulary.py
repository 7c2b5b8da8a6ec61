"""Contracts and steps that the typing tests use."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Literal

from pydantic import BaseModel

from orchestrator import Command, Done, Event, Form, Key, Person, Reply, Role, Saga, call, end, pivot, step, task

DAY = timedelta(days=1)


class OrderPlaced(Event):
    order_id: Key[str]
    customer: str
    total: int


class OrderClosed(Event):
    order_id: Key[str]


class OrderPaid(Event):
    order_id: Key[str]


class Reserved(Reply):
    reservation: str


class Reserve(Command[Reserved], to="inventory"):
    order_id: str


class Release(Command[Done], to="inventory"):
    reservation: str


class ParcelSent(Reply):
    parcel: str


class SendParcel(Command[ParcelSent], to="parcels"):
    order_id: Key[str]


class Grade(Enum):
    GOOD = "good"
    BAD = "bad"


class Colour(Enum):
    RED = "red"


class GradeForm(Form[Grade]):
    remark: str = ""


class Shown(BaseModel):
    total: int


def is_large(order: OrderPlaced) -> bool:
    return order.total > 1000


def size(order: OrderPlaced) -> Literal["small", "large"]:
    return "large" if order.total > 1000 else "small"


def grade_of(order: OrderPlaced) -> Grade:
    return Grade.GOOD if order.total else Grade.BAD


def closed(order: OrderPlaced) -> OrderClosed:
    return OrderClosed(order_id=order.order_id)


def customer(order: OrderPlaced) -> Person:
    return Person(order.customer)


def text(order: OrderPlaced) -> str:
    return order.customer


@step
def reserve(order: OrderPlaced) -> Reserve:
    return Reserve(order_id=order.order_id)


@reserve.undo
def release(reserved: Reserved) -> Release:
    return Release(reservation=reserved.reservation)


@task(to=Role("manager"), within=DAY, exclude=[customer])
def approval(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


@task(to=Role("manager"), within=DAY, answer=GradeForm)
def grading(order: OrderPlaced) -> Shown:
    return Shown(total=order.total)


def sent(parcel: SendParcel) -> ParcelSent:
    return ParcelSent(parcel=parcel.order_id)


@step(undo=None)
def hand_over(parcel: SendParcel) -> Reserve:
    return Reserve(order_id=parcel.order_id)


parcel = Saga("parcel", version=1, starts_on=SendParcel, flow=[pivot(hand_over), end("sent", result=sent)])


@call(parcel, within=DAY)
def send(order: OrderPlaced) -> SendParcel:
    return SendParcel(order_id=order.order_id)
