"""Who uses the product while it is being broken, and what was promised to them: an external history.

Rules of this file
- A start counts as acknowledged when the broker has the message, or the API has answered 2xx. What was not answered is
  asked again with the same Idempotency-Key until it is; what is refused although nothing is wrong with it is noted.
- Orders and reminders come as events and over HTTP, transfers, payments and disputes over HTTP. A manager looks for
  tasks; each is decided by a person who may: payments by two, one after the other, disputes as their course says.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from events.orders import OrderCancelled, OrderLine, OrderPlaced
from events.payments import ApprovalWithdrawn
from orchestrator.api.views import task_of
from orchestrator.broker.contract import Broker, BrokerError, OutgoingMessage, Producer
from orchestrator.messages import Event
from orchestrator.messages.envelope import Envelope, schema_urn
from tests.crash import cases
from tests.crash.cluster import RICH, THRESHOLD
from tests.crash.payouts import ReminderWanted

TICK_SECONDS = 0.25
AGAIN_SECONDS = 0.2
CALM_SECONDS = 0.05
REQUEST_SECONDS_MAX = 10.0
REQUESTS_AT_ONCE = 40
REJECTED_EVERY = 7
WITHDRAWN_EVERY = 4  # of payments, while people vote on them
CHANGED_SECONDS_MAX = 1.5
PAGE = 200
MANAGER = ("maria", "manager")
VOTERS = {"first_approval": ("pia", "payments-approver"), "second_approval": ("sol", "payments-senior")}


def order(key: str, number: int) -> OrderPlaced:
    """One lamp for 12. Every tenth order is refused at another step, so that going back is tried as well."""
    flaws = {0: {"sku": "unicorn"}, 10: {"card": "card-empty"}, 20: {"address": "nowhere 1"}}
    flaw = flaws.get(number % 30, {})
    return OrderPlaced(
        order_id=key,
        customer_id="c-1",
        lines=(OrderLine(sku=flaw.get("sku", "lamp"), quantity=1, unit_price=12),),  # type: ignore[arg-type]
        card=flaw.get("card", "card-gold"),
        address=flaw.get("address", "Main Street 1"),
    )


def message(event: Event, topic: str) -> OutgoingMessage:
    """An event as its owner publishes it."""
    name = event.wire_name
    envelope = Envelope(id=f"{name}/{event.key()}", source="/shop", type=name, dataschema=schema_urn(name, 1))
    return OutgoingMessage(topic, event.key().encode(), event.canonical(), envelope.headers())


@dataclass
class Promises:
    """What was asked for, by kind, and what was acknowledged. `unknown`: nobody answered; they may exist or not."""

    offered: Counter[str] = field(default_factory=Counter)
    orders: list[str] = field(default_factory=list)
    reminders: list[str] = field(default_factory=list)
    transfers: dict[str, int] = field(default_factory=dict)  # key to amount
    payments: list[str] = field(default_factory=list)
    disputes: list[str] = field(default_factory=list)
    votes: dict[str, str] = field(default_factory=dict)  # task id to outcome
    late: set[str] = field(default_factory=set)  # tasks whose vote was answered: its time is over
    withdrawn: set[str] = field(default_factory=set)  # payments whose requester may have taken them back
    too_late: set[str] = field(default_factory=set)  # tasks whose vote was answered: it was taken back
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    told_to_wait: int = 0

    @property
    def acknowledged(self) -> list[str]:
        """The keys of all starts that were acknowledged."""
        return [*self.orders, *self.reminders, *self.transfers, *self.payments, *self.disputes]

    @property
    def votes_answered(self) -> int:
        """Votes that counted, or that were told why they do not."""
        return len(self.votes) + len(self.late) + len(self.too_late)


class Load:
    """Offers about `rate` sagas a second between `start` and `stop`."""

    def __init__(self, broker: Broker, api: str, run: str, rate: float, chance: random.Random) -> None:
        self.promises = Promises()
        self._run, self._rate, self._chance = run, rate, chance
        self._broker = broker
        self._producer: Producer | None = None
        limits = httpx2.Limits(max_connections=REQUESTS_AT_ONCE)
        self._client = httpx2.AsyncClient(base_url=api, trust_env=False, timeout=REQUEST_SECONDS_MAX, limits=limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._offering: asyncio.Task[None] | None = None
        self._approving: asyncio.Task[None] | None = None
        self._number = 0

    async def start(self) -> None:
        """Begins to offer."""
        self._producer = self._broker.producer("shop")
        await self._producer.start()
        self._offering = asyncio.create_task(self._offer(), name="offer")
        self._approving = asyncio.create_task(self._approve(), name="approve")

    async def stop_offering(self) -> None:
        """Nothing new; what was not answered yet is still asked for, and tasks are still decided."""
        assert self._offering is not None
        self._offering.cancel()
        await asyncio.wait({self._offering})
        _raise(self._offering)

    async def calm(self, count: int) -> list[str]:
        """Some reminders, one after the other, while nothing goes wrong; their keys."""
        keys = [f"{self._run}-calm-{number:03}" for number in range(count)]
        for key in keys:
            await self._publish([("reminder", key, message(ReminderWanted(reminder_id=key), "lines.events"))])
            await asyncio.sleep(CALM_SECONDS)
        return keys

    async def answered(self, seconds_max: float) -> bool:
        """Waits until everything that was asked has an answer."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds_max)
        return not self._tasks

    async def close(self) -> None:
        """Everybody goes home."""
        tasks = {task for task in (*self._tasks, self._offering, self._approving) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.aclose()
        if self._producer is not None:
            await self._producer.stop()

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _offer(self) -> None:
        due = 0.0
        while True:
            due += self._rate * TICK_SECONDS
            events: list[tuple[str, str, OutgoingMessage]] = []
            while due >= 1:
                due -= 1
                self._one(events)
            if events:
                self._spawn(self._publish(events))
            await asyncio.sleep(TICK_SECONDS)

    def _one(self, events: list[tuple[str, str, OutgoingMessage]]) -> None:
        self._number += 1
        number, drawn = self._number, self._chance.random()
        key = f"{self._run}-{number:06}"
        if drawn < 0.35:
            events.append(("order", key, message(order(key, number), "orders.events")))
            if number % 23 == 0:
                self._spawn(self._change_mind(OrderCancelled(order_id=key, reason="no longer wanted"), "orders.events"))
        elif drawn < 0.5:
            events.append(("reminder", key, message(ReminderWanted(reminder_id=key), "lines.events")))
        elif drawn < 0.6:
            self._spawn(self._start("order", key, "order-fulfilment", order(key, number).plain(), 0))
        elif drawn < 0.71:
            body = {
                "payment_id": key, "requested_by": "ravi", "debtor_account": "acme-operating", "beneficiary": "Nordic",
                "beneficiary_account": "nordic-steel", "amount": "1000.00", "currency": "EUR",
            }  # fmt: skip
            self._spawn(self._start("payment", key, "payment-approval", body, 0))
            if number % WITHDRAWN_EVERY == 0:
                self.promises.withdrawn.add(key)
                taken_back = ApprovalWithdrawn(payment_id=key, withdrawn_by="ravi")
                self._spawn(self._change_mind(taken_back, "bank.payments.events"))
        elif drawn < 0.84:
            self._spawn(self._dispute(key))
        else:
            amount = self._chance.choice((THRESHOLD - 1, THRESHOLD, THRESHOLD + 1))
            body = {
                "transfer_id": key, "session_id": key, "user_id": "ravi", "from_account": f"rich-{number % RICH}",
                "recipient": "Kiran", "amount": str(amount), "currency": "EUR",
            }  # fmt: skip
            self._spawn(self._start("transfer", key, "transfer", body, amount))

    async def _publish(self, events: Sequence[tuple[str, str, OutgoingMessage]]) -> None:
        assert self._producer is not None
        self.promises.offered.update(kind for kind, _, _ in events)
        results: Sequence[BrokerError | None]
        try:
            results = await self._producer.send([sent for _, _, sent in events])
        except BrokerError as away:
            results = [away] * len(events)
        for (kind, key, _), refused in zip(events, results, strict=True):
            kept = self.promises.orders if kind == "order" else self.promises.reminders
            (kept if refused is None else self.promises.unknown).append(key)

    async def _change_mind(self, event: Event, topic: str) -> None:
        """Somebody thinks better of it, at any moment of what they began."""
        assert self._producer is not None
        await asyncio.sleep(self._chance.uniform(0, CHANGED_SECONDS_MAX))
        try:
            await self._producer.send([message(event, topic)])
        except BrokerError:
            return  # then not

    async def _start(self, kind: str, key: str, saga: str, body: Any, amount: int) -> None:
        self.promises.offered[kind] += 1
        headers = {"X-Actor": "shop", "Idempotency-Key": f"start-{key}"}
        answer = await self._until_answered("POST", f"/v1/sagas/{saga}", body, headers)
        if not answer.is_success or answer.json()["businessKey"] != key:
            self.promises.refused.append(f"start of {saga} {key}: {answer.status_code} {answer.text[:300]}")
        elif kind == "order":
            self.promises.orders.append(key)
        elif kind == "payment":
            self.promises.payments.append(key)
        else:
            self.promises.transfers[key] = amount

    async def _dispute(self, key: str) -> None:
        """Raised by its customer; its manager takes it on where the case's course has one."""
        self.promises.offered["dispute"] += 1
        headers = {"X-Actor": cases.CUSTOMER, "X-Actor-Roles": "approver", "Idempotency-Key": f"start-{key}"}
        answer = await self._until_answered("POST", "/disputes", cases.body(key), headers)
        if not answer.is_success:
            self.promises.refused.append(f"dispute {key}: {answer.status_code} {answer.text[:300]}")
            return
        self.promises.disputes.append(key)
        headers = {"X-Actor": cases.MANAGER, "X-Actor-Roles": "approver"}
        while cases.course(key).manager:
            answer = await self._until_answered("POST", f"/disputes/{key}/acknowledge", {}, headers)
            if answer.status_code == 200 or answer.json().get("code") == "ended":
                break  # an attempt that nobody heard the end of may have counted long ago
            if answer.status_code not in (202, 403, 404):  # on its way; not assigned yet, or not theirs
                self.promises.refused.append(f"taking on {key}: {answer.status_code} {answer.text[:300]}")
                break
            await asyncio.sleep(AGAIN_SECONDS)

    async def _approve(self) -> None:
        """Looks for open tasks and decides each once, as often as that has to be asked."""
        seen: set[str] = set()
        headers = {"X-Actor": "maria", "X-Actor-Roles": "manager,viewer"}
        while True:
            page = await self._until_answered("GET", f"/v1/tasks?limit={PAGE}", None, headers)
            for task in page.json()["items"] if page.is_success else ():
                if task["id"] not in seen:
                    seen.add(task["id"])
                    self._spawn(self._vote(task, len(seen)))
            await asyncio.sleep(AGAIN_SECONDS)

    async def _vote(self, found: dict[str, Any], number: int) -> None:
        self.promises.offered["vote"] += 1
        task, late = found["id"], found["sagaName"] == cases.SAGA and cases.is_late(found)
        if found["sagaName"] == cases.SAGA:
            who, group, outcome, form = cases.vote(found)
        else:
            who, group = VOTERS.get(task_of(task)[1].rpartition("/")[2], MANAGER)
            outcome, form = "approve" if number % REJECTED_EVERY else "reject", {}
        if late:
            await asyncio.sleep(self._chance.uniform(*cases.LATE_VOTE_SECONDS))
        headers = {"X-Actor": who, "X-Actor-Roles": f"{group},approver", "Idempotency-Key": f"vote-{task}"}
        shown = await self._until_answered("GET", f"/v1/tasks/{task}", None, headers)
        body = {"outcome": outcome, "form": form, "subjectHash": shown.json().get("subjectHash", "")}
        answer = await self._until_answered("POST", f"/v1/tasks/{task}/decide", body, headers)
        if answer.is_success and answer.json()["decided"]:
            self.promises.votes[task] = outcome
        elif late and answer.json().get("code") == "expired":
            self.promises.late.add(task)
        elif found["businessKey"] in self.promises.withdrawn and answer.json().get("code") in ("withdrawn", "ended"):
            self.promises.too_late.add(task)
        else:
            self.promises.refused.append(f"vote on {task}: {answer.status_code} {answer.text[:300]}")

    async def _until_answered(self, method: str, path: str, body: Any, headers: dict[str, str]) -> httpx2.Response:
        """Asks again what was not answered, or what the product could not do just then."""
        while True:
            try:
                async with self._at_once:
                    answer = await self._client.request(method, path, json=body, headers=headers)
                running = answer.status_code == 409 and answer.json().get("code") == "key_running"
                if answer.status_code == 429:  # too much is under way: it says when to come again
                    self.promises.told_to_wait += 1
                    await asyncio.sleep(min(float(answer.headers.get("Retry-After", "1")), 2))
                elif answer.status_code < 500 and not running:
                    return answer
            except (httpx2.HTTPError, OSError):
                pass
            await asyncio.sleep(AGAIN_SECONDS * (1 + self._chance.random()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.promises.refused.append(f"a user's program failed: {task.exception()!r}")


def _raise(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        task.result()
