"""Planner and sender on a real database, without loops: tests let tasks happen, and look at what was kept and sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from orchestrator.kernel.inputs import TaskAct, Vote
from orchestrator.notices.contract import Channel, Notice, NotSentError
from orchestrator.notices.planner import Planner, Reach
from orchestrator.notices.preferences import Preferences
from orchestrator.notices.sender import Sender, Sending
from orchestrator.notices.store import NoticeStore
from orchestrator.notices.texts import Texts
from orchestrator.runtime.work import Cause, Outcome, SagaInput
from tests.notices.purchase import PurchaseAsked, purchase
from tests.runtime.desk import Desk, Eyes, at_desk, event

BUY = "slow/otherwise/buy"
ALL = ["opened manager@bank.example", "opened maria@bank.example", "opened noel@bank.example"]  # of one purchase
QUICK = Sending(
    batch_rows=20, poll_ms=20, lease_ms=2_000, attempt_ms=1_000, attempts_max=3, retry_ms=50, retry_ms_max=50
)


@dataclass
class Recorder:
    """A channel that remembers. errors: raised by the next sends, in order. gate: sends wait for it."""

    sent: list[Notice] = field(default_factory=list)
    errors: list[NotSentError] = field(default_factory=list)
    gate: asyncio.Event | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    rests: int = 0

    async def send(self, notice: Notice) -> None:
        """As the port has it."""
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append(notice)

    async def rest(self) -> None:
        """Counts."""
        self.rests += 1

    def to(self) -> list[str]:
        """Kind and address of what was sent, in order of address."""
        return sorted(f"{notice.kind} {notice.address}" for notice in self.sent)


@dataclass
class Office:
    """A desk at which tasks happen, and the notices about them."""

    desk: Desk
    eyes: Eyes
    store: NoticeStore
    mail: Recorder
    admin: Eyes

    def planner(self, **changes: Any) -> Planner:
        """A planner of its own."""
        reach = replace(Reach(mail=True, mail_domain="bank.example"), **changes)
        return Planner(self.desk.store, self.store, reach, poll_ms=20, batch_records=100, age_ms_max=3_600_000)

    def sender(self, limits: Sending = QUICK, **channels: Recorder) -> Sender:
        """A sender of its own, over the recorder unless channels are given."""
        given = {cast("Channel", name): channel for name, channel in (channels or {"mail": self.mail}).items()}
        return Sender(self.store, Texts(lambda: "https://office.bank.example"), given, limits)

    async def ask(self, key: str, mood: str = "") -> str:
        """Starts a purchase; gives its saga id."""
        await self.desk.take(event(PurchaseAsked(purchase_id=key, requester="ravi", mood=mood)))
        rows = await self.eyes.rows("SELECT saga_id FROM saga_heads WHERE business_key = $1", key)
        return str(rows[0]["saga_id"])

    async def vote(self, saga_id: str, by: str, outcome: str = "approve") -> Outcome:
        """One vote on the task."""
        (row,) = await self.eyes.rows("SELECT data FROM tasks WHERE saga_id = $1", saga_id)
        subject = orjson.loads(row["data"])["hash"]
        vote = Vote(BUY, by, ("manager",), {"outcome": outcome}, subject, 0, authentication="test")
        (outcome_,) = await self.desk.decide(SagaInput(saga_id, vote, Cause("main", actor=f"person:{by}")))
        return outcome_

    async def delegate(self, saga_id: str, by: str, to: str) -> Outcome:
        """Names a substitute on the task."""
        act = TaskAct(BUY, "delegate", by, ("manager",), 0, to=({"person": to},))
        (outcome,) = await self.desk.decide(SagaInput(saga_id, act, Cause("main", actor=f"person:{by}")))
        return outcome

    async def rows(self, order: str = "id") -> list[dict[str, Any]]:
        """The outbox."""
        columns = "id, kind, who, channel, address, state, reason, attempts, digest, due, saga_id"
        return await self.eyes.rows(f"SELECT {columns} FROM notice_outbox ORDER BY {order}")

    async def states(self) -> dict[str, str]:
        """What became of each recipient's notice."""
        return {row["who"]: row["state"] for row in await self.rows()}

    async def until_sent(self, count: int) -> None:
        """Waits until so many are marked as sent. Raises TimeoutError."""
        async with asyncio.timeout(20):
            while True:
                if sum(row["state"] == "sent" for row in await self.rows()) >= count:
                    return
                await asyncio.sleep(0.02)

    async def change(self, statement: str, *args: object) -> None:
        """Changes the outbox behind everybody's back: time passes."""
        await self.admin.rows(statement, *args)

    async def wish(self, who: str, wishes: Preferences, address: str = "") -> None:
        """Writes into the address book."""
        await self.admin.rows(
            "INSERT INTO notice_contacts VALUES ($1, $2, $3, 0, 'main', $4, 'mail', $5, $6, $7, $8, 'test')",
            wishes.quiet_from, wishes.quiet_to, wishes.digest_at, who, address, wishes.language, wishes.zone,
            wishes.delivery,
        )  # fmt: skip


@asynccontextmanager
async def at_office(url: str, admin_url: str) -> AsyncIterator[Office]:
    """An office whose notices are switched on before anything happens."""
    async with at_desk(url, sagas=[purchase]) as desk:
        store = NoticeStore(desk.store.pools)  # type: ignore[attr-defined]
        office = Office(desk, Eyes(url), store, Recorder(), Eyes(admin_url))
        await office.planner().plan()
        yield office


async def until_planned(planner: Planner) -> None:
    """Plans until there is nothing more to read."""
    while await planner.plan():
        pass


def ids(notices: Sequence[Notice]) -> list[str]:
    """Their ids, in order."""
    return [notice.id for notice in notices]
