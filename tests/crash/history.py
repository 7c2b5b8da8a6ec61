"""What must be true after the storm, read from streams, from the participants' own ledgers, and from the log.

Rules of this file
- Nothing here trusts the product: SQL of its own, the bank's books, the file of the world outside.
- Every check gives sentences that name the saga; no sentence means that nothing is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from typing import Any

import asyncpg

from orchestrator.api.views import task_id_of
from orchestrator.broker.contract import Broker, IncomingMessage
from orchestrator.notices.events import CONTRACTS
from orchestrator.notices.events import TOPIC as NOTICES
from orchestrator.store.chain import opened, verify
from orchestrator.store.contract import StoredRecord
from orchestrator.store.sql import load_queries
from tests.crash import cases
from tests.crash.line_checks import Witness, header
from tests.crash.load import Promises

SQL = load_queries("tests", "ledgers.sql") | load_queries("tests.crash", "history.sql")
SAGAS_AT_ONCE = 1_000
LOGS = (
    "inventory.commands",
    "payments.commands",
    "shipping.commands",
    "accounts.commands",
    "clearing.commands",
    "teller.commands",
    "case_ai.commands",
    "case_desk.commands",
    "disputes.events",
    NOTICES,
)
TOLD_OF = {"task.decided": CONTRACTS["decided"].wire_name, "task.expired": CONTRACTS["expired"].wire_name}
WHOLE = {"held": 1, "paid": 12, "handed_over": 1, "standing": 1}
NOTHING = {"held": 0, "paid": 0, "handed_over": 0, "standing": 0}


@dataclass(slots=True)
class Seen:
    """What the streams say. `lateness_us`: of the timer of each reminder, by key, against its due instant."""

    phases: dict[tuple[str, str], str] = field(default_factory=dict)  # (saga's name, key) to how it ended
    ids: dict[str, tuple[str, str]] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    lateness_us: dict[str, int] = field(default_factory=dict)
    disputes: dict[str, list[StoredRecord]] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (task, the notice that tells of its end)
    records: int = 0
    flaws: list[str] = field(default_factory=list)


class History:
    """Reads as the owner of the tables."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def live(self) -> int:
        """How many sagas have not ended."""
        return int(await self._connection.fetchval(SQL["live"]))

    async def started(self, keys: Sequence[str]) -> int:
        """How many sagas there are under these keys."""
        return int(await self._connection.fetchval(SQL["started"], keys))

    async def unfinished(self) -> str:
        """Some that have not ended, with where they are."""
        return "\n".join(str(dict(row)) for row in await self._connection.fetch(SQL["unfinished"]))

    async def flaws(self, promises: Promises, broker: Broker, world: Path) -> tuple[list[str], Seen]:
        """Everything that is wrong, and what was seen."""
        seen = await self._streams(promises)
        flaws = [*promises.refused, *seen.flaws, *_starts(promises, seen)]
        for row in await self._connection.fetch(SQL["dead_letters"]):
            flaws.append(f"a dead letter: {dict(row)}")
        for row in await self._connection.fetch(SQL["left_over"]):
            flaws.append(f"saga {row['saga_id']}: a {row['what']} is left over")
        for name in ("prove_inventory", "prove_payments", "prove_shipping", "prove_bank", "prove_clearing"):
            rows = await self._connection.fetch(SQL[name])
            flaws += [f"{name}: {dict(row)}" for row in rows]
        flaws += await self._orders(seen)
        flaws += await self._transfers(promises, seen)
        flaws += await self._payments(seen)
        flaws += _reminders(seen, world)
        return [*flaws, *await self._log(broker, seen)], seen

    async def _streams(self, promises: Promises) -> Seen:
        """Every stream: whole, with its cause, undone in order, decided once as it was answered (V1, V2, V9, V17)."""
        seen = Seen()
        heads = await self._connection.fetch(SQL["heads"])
        for first in range(0, len(heads), SAGAS_AT_ONCE):
            some = heads[first : first + SAGAS_AT_ONCE]
            streams: dict[str, list[StoredRecord]] = {head["saga_id"]: [] for head in some}
            for row in await self._connection.fetch(SQL["records"], list(streams)):
                streams[row["saga_id"]].append(opened(row["saga_id"], row["version"], row["body"], row["hash"]))
            for head in some:
                stream, where = streams[head["saga_id"]], (head["name"], head["business_key"])
                if where in seen.phases:
                    seen.flaws.append(f"{where}: there are two sagas")
                seen.phases[where], seen.ids[head["saga_id"]] = head["phase"], where
                seen.ended[f"{head['name']} {head['phase']}"] += 1
                seen.records += len(stream)
                if head["name"] == cases.SAGA:
                    seen.disputes[head["business_key"]] = stream
                seen.outcomes.update(
                    (task_id_of(head["saga_id"], record.activity), TOLD_OF[record.type])
                    for record in stream
                    if record.type in TOLD_OF
                )
                flaw = verify(stream, head_version=head["version"], head_hash=head["hash"])
                seen.flaws += [f"{where}: {flaw}"] if flaw is not None else _story(head, stream, promises)
                seen.lateness_us.update((head["business_key"], late) for late in _lateness(stream))
        return seen

    async def _orders(self, seen: Seen) -> list[str]:
        """Each order holds and has paid exactly what its outcome says: all once, or nothing at all (V6, V9)."""
        effects = {row["order_id"]: dict(row) for row in await self._connection.fetch(SQL["per_order"])}
        flaws = []
        for (name, key), phase in seen.phases.items():
            if name == "order-fulfilment":
                found = effects.pop(key, {"order_id": key, **NOTHING})
                actual = {what: int(found[what]) for what in WHOLE}
                if actual != (WHOLE if phase == "completed" else NOTHING):
                    flaws.append(f"order {key} is {phase}, but the ledgers say {actual}")
        return [*flaws, *(f"the ledgers know an order without a saga: {key}" for key in effects)]

    async def _transfers(self, promises: Promises, seen: Seen) -> list[str]:
        """The bank moved each completed transfer's money once, and no other; each hold was closed as it should be."""
        moved = {
            row["saga_id"]: (int(row["amount"]), row["times"]) for row in await self._connection.fetch(SQL["moved"])
        }
        holds: dict[str, list[str]] = {}
        for row in await self._connection.fetch(SQL["holds"]):
            holds.setdefault(row["transfer_id"], []).append(row["became"])
        flaws = []
        for saga_id, (name, key) in seen.ids.items():
            if name != "transfer":
                continue
            completed = seen.phases[name, key] == "completed"
            actual = moved.pop(saga_id, (0, 0))
            expected = (promises.transfers.get(key, actual[0]), 1) if completed else (0, 0)
            if actual != expected:
                flaws.append(f"transfer {key} is {seen.phases[name, key]}, but the bank moved {actual}")
            became = holds.pop(key, [])
            if became != (["used"] if completed else ["released"] if became else []):
                flaws.append(f"transfer {key} is {seen.phases[name, key]}, but its hold is {became}")
        return [*flaws, *(f"money moved or held without a saga: {what}" for what in [*moved, *holds])]

    async def _payments(self, seen: Seen) -> list[str]:
        """What each payment held was released once where two people agreed, and is free again everywhere else."""
        became: dict[str, list[str]] = {}
        for row in await self._connection.fetch(SQL["per_payment"]):
            became.setdefault(row["payment_id"], []).append(row["became"])
        flaws = []
        for (name, key), phase in seen.phases.items():
            if name == "payment-approval":
                found = became.pop(key, [])
                if found != (["released"] if phase == "completed" else ["cancelled"] if found else []):
                    flaws.append(f"payment {key} is {phase}, but what was held is {found}")
        return [*flaws, *(f"clearing held for a payment without a saga: {key}" for key in became)]

    async def _log(self, broker: Broker, seen: Seen) -> list[str]:
        """Every message on the log was decided before, duplicates are the same bytes, order is kept (V4, V7, V8). Every
        case ends once for the world as well, and everybody was told once how each task ended."""
        async with Witness(broker, LOGS, "nemesis-witness") as witness:
            messages = await witness.catch_up()
        decided = {row["id"] for row in await self._connection.fetch(SQL["decided"])}
        ours = {header(one, "ce_id") for one in messages if header(one, "ce_source").startswith("/sagas/")}
        first = {(one.topic, header(one, "ce_id")): one for one in messages}
        ends: Counter[tuple[str, str]] = Counter()
        told: Counter[tuple[str, str]] = Counter()
        for (topic, _), message in first.items():
            what = header(message, "ce_type")
            if topic == NOTICES and what in TOLD_OF.values():
                told[_field(message, "task"), what] += 1
            elif topic == "disputes.events" and header(message, "ce_source").startswith("/sagas/"):
                ends[what, _field(message, "doc_id")] += 1
        rows = {row["doc_id"]: dict(row) for row in await self._connection.fetch(SQL["cases"])}
        return [
            *witness.flaws(messages),
            *(f"message {id_} was never decided" for id_ in ours - decided),
            *(f"the end of {one} was told {told[one]} times, and happened {seen.outcomes[one]} times"
              for one in told | seen.outcomes if told[one] != seen.outcomes[one]),
            *cases.flaws(rows, seen.disputes, ends),
        ]  # fmt: skip


def _field(message: IncomingMessage, name: str) -> str:
    return str(loads(message.value or b"{}")[name])


def _starts(promises: Promises, seen: Seen) -> Iterator[str]:
    """Each acknowledged start has its saga; whatever else exists was at least asked for (V1)."""
    found = Counter(key for _, key in seen.phases)
    acknowledged = Counter(promises.acknowledged)
    yield from (f"the start of {key} was acknowledged, and there is no saga" for key in acknowledged if not found[key])
    yield from (f"{key} was asked for once and has {count} sagas" for key, count in found.items() if count > 1)
    asked = acknowledged.keys() | set(promises.unknown)
    yield from (f"nobody asked for {key}" for key in found if key not in asked)


def _story(head: Any, stream: Sequence[StoredRecord], promises: Promises) -> list[str]:
    key, phase = f"{head['name']} {head['business_key']}", head["phase"]
    flaws = []
    if head["business_key"] not in stream[0].causation_id:
        flaws.append(f"{key}: started by {stream[0].causation_id}")
    if phase not in ("completed", "compensated"):
        flaws.append(f"{key}: it is {phase}")
    done = [record.activity for record in stream if record.type == "step.succeeded"]
    undone = [record.activity for record in stream if record.type == "undo.succeeded"]
    undoable = [activity for activity in done if not activity.endswith("validate_transfer")]  # that one only reads
    if undone != (undoable[::-1] if phase == "compensated" else []):
        flaws.append(f"{key} is {phase}: done {done}, undone {undone}")
    votes = [record for record in stream if record.type == "task.decided"]
    expired = [record.activity for record in stream if record.type == "task.expired"]
    opened_tasks = {record.activity for record in stream if record.type == "task.opened"}
    settled = [*expired, *(vote.activity for vote in votes)]
    taken_back = opened_tasks - set(settled) if head["business_key"] in promises.withdrawn else set()
    if sorted([*settled, *taken_back]) != sorted(opened_tasks) or len(taken_back) > 1:
        flaws.append(f"{key}: {len(opened_tasks)} tasks, {len(votes)} decisions, {len(expired)} expired")
    if taken_back and phase != "compensated":
        flaws.append(f"{key}: it is {phase}, and nobody decided {taken_back}")
    if expired and head["name"] != cases.SAGA:
        flaws.append(f"{key}: nobody's time was short, and {expired} expired")
    for vote in votes:
        answered = promises.votes.get(task_id_of(head["saga_id"], vote.activity))
        if answered != vote.data.get("outcome"):
            flaws.append(f"{key}: decided {vote.data.get('outcome')}, answered {answered}")
    told = {task for task in promises.too_late if task.startswith(head["saga_id"])}
    if told - {task_id_of(head["saga_id"], activity) for activity in taken_back}:
        flaws.append(f"{key}: {told} were answered as withdrawn, and the stream says {settled}")
    late = {task for task in promises.late if task.startswith(head["saga_id"])}
    if late - {task_id_of(head["saga_id"], activity) for activity in expired}:
        flaws.append(f"{key}: {late} were answered as expired, and the stream says {expired}")
    return flaws


def _lateness(stream: Sequence[StoredRecord]) -> Iterator[int]:
    """How late each timer that was set fired, microseconds; below nothing is too early."""
    due = {record.activity: record.data["due"] for record in stream if record.type == "timer.set"}
    for record in stream:
        if record.type == "timer.fired":
            yield record.recorded_at - due.pop(record.activity, record.recorded_at + 1)


def _reminders(seen: Seen, world: Path) -> Iterator[str]:
    """Outside, each reminder happened once; no timer fired early, or twice (V23)."""
    lines = world.read_text().splitlines() if world.exists() else []
    happened = Counter(line.partition(" ")[2] for line in lines)
    reminders = {key for name, key in seen.phases if name == "reminder-by-line"}
    yield from (f"reminder {key} happened {happened[key]} times" for key in reminders if happened[key] != 1)
    yield from (f"{key} happened outside, and nobody asked" for key in happened if key not in reminders)
    if len(seen.lateness_us) != len(reminders):
        yield f"{len(reminders)} timers were set, {len(seen.lateness_us)} fired"
    late = seen.lateness_us.items()
    yield from (f"the timer of {key} fired {-by} microseconds early, or twice" for key, by in late if by < 0)
