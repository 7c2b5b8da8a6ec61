"""What the sweep kills: pieces of the production code, from their first read to their last mark, line by line.

Rules of this file
- A unit prepares its situation undisturbed, then switches the tracer on and does one thing, as the loops of a running
  process do it. The tracer kills the process, as SIGKILL does, at the line that it was given.
- Every unit finds the same five sagas: two payouts on their way, three new ones and a reminder, a start that came twice
  and a message that nobody can read.
- `finish` is the process that comes after: the shipped loops, all roles, and a person who asks again what was not
  answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg
import httpx2

import orchestrator
import orchestrator.store.answers
from orchestrator.api.app import create_app
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.config import Settings
from orchestrator.messages import Event
from orchestrator.messages.envelope import Envelope, schema_urn
from orchestrator.participants import Participant, ParticipantSettings, Worker, open_pool
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.relay import Relay
from orchestrator.runtime.supervisor import Pulse, Stopping
from tests.crash.payouts import PayoutWanted, ReminderWanted, payout, reminder, teller, vault

ROOT = str(Path(orchestrator.__file__).parent)
SWEPT = ("runtime", "store", "participants", "api")
TOPIC = "lines.events"
VOTES = {"a": "approve", "b": "reject", "d": "approve"}  # c is refused before anybody is asked
SAGAS = 5
ALARM_SECONDS = 90  # far more than a finish takes: a machine that others use decides no test
QUICK = ParticipantSettings(fetch_wait_ms=20, positions_ms=1, retry_ms=20)

# The next request with a dead one's key waits until its claim is over; here everything takes milliseconds.
orchestrator.store.answers.CLAIM_SECONDS = 0.3


class Tracer:
    """Counts executions of each line of the swept packages; at the `nth` one of `place` the process kills itself.

    A place is a file below the package and a line, as in "runtime/relay.py:200".
    """

    def __init__(self, place: str, nth: int, tell: Callable[[str], None]) -> None:
        self._place, self._nth, self._tell = place, nth, tell
        self._folders = tuple(os.path.join(ROOT, name) + os.sep for name in SWEPT)
        self.counts: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self._folders):
            return None
        if event == "line":
            place = f"{frame.f_code.co_filename[len(ROOT) + 1 :]}:{frame.f_lineno}"
            self.counts[place] += 1
            if place == self._place and self.counts[place] == self._nth:
                os.kill(os.getpid(), signal.SIGKILL)
        return self

    def __enter__(self) -> None:
        sys.settrace(self)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


def key(run: str, letter: str) -> str:
    """The business key of one of a run's sagas."""
    return f"{run}-{letter}"


def start(message: Event) -> OutgoingMessage:
    """A start as another service publishes it; its id follows from its key, so that it can come again."""
    name = message.wire_name
    envelope = Envelope(id=f"m-{message.key()}", source="/lines", type=name, dataschema=schema_urn(name, 1))
    return OutgoingMessage(TOPIC, message.key().encode(), message.canonical(), envelope.headers())


class Stage:
    """One process with the parts of a product, moved by hand."""

    def __init__(self, runtime: Runtime, run: str, tracer: Tracer, tell: Callable[[str], None]) -> None:
        assert runtime.intake is not None
        assert runtime.relay is not None
        assert runtime.timers is not None
        self.runtime, self.run, self.tracer, self.tell = runtime, run, tracer, tell
        self.intake, self.relay, self.timers = runtime.intake, runtime.relay, runtime.timers
        self.stopping, self.pulse = Stopping(), Pulse("lines", 60_000)

    async def open(self) -> None:
        """Joins its group and reads what earlier runs have left."""
        await self.intake._start(self.stopping, self.pulse)
        consumer = self.intake._consumer
        while not consumer.assignment() or not set((await self.ends()).items()) <= set(consumer.positions().items()):
            await self.read(0)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        """As the world does; only what the broker has acknowledged counts as a start."""
        producer = self.runtime.broker.producer("world")
        await producer.start()
        assert set(await producer.send(messages)) == {None}

    async def ends(self) -> dict[tuple[str, int], int]:
        """The end of every partition that intake reads."""
        return await self.intake._consumer.end_offsets()

    async def read(self, count: int, at_most: int = 500) -> None:
        """Intake's way of one batch: fetch until so many are there, then decide and commit."""
        (lane,) = self.intake.lanes
        self.intake._batch_messages = at_most
        while True:
            await self.intake._fetch()
            if len(lane.pending) >= count:
                break
        batch, lane.pending = lane.pending, []
        if batch:
            await self.intake._process(batch, self.stopping, self.pulse)

    async def send(self) -> None:
        """The relay's way of what was just committed: publish, then mark."""
        while self.relay._queue:
            assert await self.relay._send_from_memory() is None
        await self.relay.mark_now()

    async def obey(self, participant: Participant, replies: int) -> None:
        """A participant's way of some commands, until their answers are on the broker and its position is stored."""
        topic, commands = (f"{participant.name}.replies", 0), (f"{participant.name}.commands", 0)
        wanted = (await self.ends())[topic] + replies
        watching = await asyncpg.connect(self.runtime.database_url)
        position_of = f"SELECT max(next_offset) FROM {participant.own_schema.name}.positions"
        async with open_pool(self.runtime.database_url, 2) as pool:
            worker = Worker(participant, self.runtime.broker, pool, QUICK)
            working = asyncio.create_task(worker.run())
            while not working.done():
                await asyncio.sleep(0.002)
                if (await self.ends())[topic] >= wanted:
                    end = (await worker._consumer.end_offsets()).get(commands)
                    if end is not None and await watching.fetchval(position_of) == end:
                        break
            working.cancel()
            await asyncio.wait({working})
        await watching.close()

    async def vote(self, client: httpx2.AsyncClient, letter: str) -> bool:
        """A person decides, with a key of their own; True where the answer says that it counted."""
        task = f"{saga_id_of('main', payout.name, key(self.run, letter))}:approve"
        headers = {"X-Actor": "maria", "X-Actor-Roles": "boss", "Idempotency-Key": f"vote-{key(self.run, letter)}"}
        shown = await client.get(f"/v1/tasks/{task}", headers=headers)
        if shown.status_code != 200:
            return False
        body = {"outcome": VOTES[letter], "subjectHash": shown.json()["subjectHash"]}
        answer = await client.post(f"/v1/tasks/{task}/decide", json=body, headers=headers)
        if answer.status_code == 200:
            self.tell(f"voted {letter}")
        elif answer.json().get("code") not in ("key_running", "unavailable", "busy"):
            self.tell(f"vote {letter} refused: {answer.text}")
        return answer.status_code == 200

    def client(self) -> httpx2.AsyncClient:
        """The HTTP API without a network between."""
        transport = httpx2.ASGITransport(create_app(self.runtime), client=("127.0.0.1", 1))
        return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1")


# --- situations -------------------------------------------------------------------------------------------------------


async def offered(stage: Stage) -> None:
    """Four payouts and a reminder are wanted, one of them twice, and one message is rubbish: seven messages."""
    a, b, d = (start(PayoutWanted(payout_id=key(stage.run, letter))) for letter in "abd")
    c = start(PayoutWanted(payout_id=key(stage.run, "c"), flaw="book"))
    r = start(ReminderWanted(reminder_id=key(stage.run, "r")))
    rubbish = OutgoingMessage(TOPIC, key(stage.run, "x").encode(), b"\xff{", ())
    await stage.publish([a, b, c, d, r, a, rubbish])


async def two_on_their_way(stage: Stage) -> None:
    """Two payouts have done their first step, and nobody knows it yet; five messages lie unread on the topic."""
    await offered(stage)
    await stage.read(2, at_most=2)
    await stage.send()
    await stage.obey(vault, 2)


async def seven_read(stage: Stage) -> None:
    """All of that was read and decided; commands wait to be sent."""
    await two_on_their_way(stage)
    await stage.read(7)


async def asked_for_approval(stage: Stage) -> None:
    """Two payouts wait for a person."""
    await seven_read(stage)
    await stage.send()
    await stage.obey(vault, 4)
    await stage.read(4)
    await stage.send()


# --- units ------------------------------------------------------------------------------------------------------------


async def intake(stage: Stage) -> None:
    """Consume, decide, append, commit, position: two replies, three starts, a duplicate and rubbish in one batch."""
    await two_on_their_way(stage)
    with stage.tracer:
        await stage.read(7)


async def relay(stage: Stage) -> None:
    """Publish what was just committed, and mark it."""
    await seven_read(stage)
    with stage.tracer:
        await stage.send()


async def relay_by_table(stage: Stage) -> None:
    """Publish what a dead process has committed: read from the table, seen twice, sent, marked."""
    stage.runtime.coordinator.outlet = None
    stage.relay = Relay(
        stage.runtime.store, stage.runtime.broker.producer("relay"), stage.runtime.coordinator.process, tenant="main",
        batch_rows=500, memory_rows_max=1_000, backlog_rows_max=500, mark_ms=5, sweep_ms=20, poll_ms=5, retry_ms=20,
    )  # fmt: skip
    await offered(stage)
    await stage.read(7)
    with stage.tracer:
        await stage.relay.sweep_now()
        await stage.relay.sweep_now()


async def timer(stage: Stage) -> None:
    """Find a due timer, fire it, commit; its command goes out."""
    await seven_read(stage)
    await stage.send()
    connection = await asyncpg.connect(stage.runtime.database_url)
    due = await connection.fetchval(
        "SELECT due FROM timers WHERE saga_id = $1", saga_id_of("main", reminder.name, key(stage.run, "r"))
    )
    while (await stage.runtime.store.read_until(stage.runtime.settings.consumer_group) or 0) <= due:
        await asyncio.sleep(0.005)
        await stage.read(0)
        await stage.intake._beat()
    await connection.close()
    with stage.tracer:
        await stage.timers.fire()
        await stage.send()


async def decision(stage: Stage) -> None:
    """POST a decision with an Idempotency-Key: an approval, and a rejection that turns a saga back."""
    await asked_for_approval(stage)
    async with stage.client() as client:
        with stage.tracer:
            assert await stage.vote(client, "a")
            assert await stage.vote(client, "b")


async def participant(stage: Stage) -> None:
    """A participant obeys five commands: inbox, effects, answers, position."""
    await seven_read(stage)
    await stage.send()
    with stage.tracer:
        await stage.obey(vault, 4)


async def outside(stage: Stage) -> None:
    """A participant whose effect is outside every database: note, call, settle, answer, position."""
    await asked_for_approval(stage)
    async with stage.client() as client:
        assert await stage.vote(client, "a")
    await stage.send()
    with stage.tracer:
        await stage.obey(teller, 1)


async def undoing(stage: Stage) -> None:
    """A rejected payout: its first undo was obeyed; its answer is read, the next undo decided and sent."""
    await asked_for_approval(stage)
    async with stage.client() as client:
        assert await stage.vote(client, "b")
    await stage.send()
    await stage.obey(vault, 2)  # also the release of the payout whose second step was refused
    with stage.tracer:
        await stage.read(2)
        await stage.send()


UNITS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    unit.__name__: unit for unit in (intake, relay, relay_by_table, timer, decision, participant, outside, undoing)
}


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kit:
    """Units that share their sagas. `until_ended`: what people do in the process that comes after, and its end."""

    sagas: str
    catalog: Callable[[], Catalog]
    units: Mapping[str, Callable[[Stage], Awaitable[None]]]
    until_ended: Callable[[Stage, str, asyncio.Task[None]], Awaitable[None]]


def settings(url: str, broker: str, sagas: str = "tests.crash.payouts") -> Settings:
    """Quick ones: what a test waits for is what a poll waits for."""
    return Settings(
        database_url=url, broker_url=broker, sagas=sagas, instance_id="lines", topic_partitions=1,
        consumer_group="lines", intake_lanes=1, intake_wait_ms=20, intake_heartbeat_ms=20, outbox_sweep_ms=20,
        timer_poll_ms=10, reconcile_poll_ms=20,
    )  # fmt: skip


async def sweep(kit: Kit, url: str, broker: str, request: Mapping[str, Any], tell: Callable[[str], None]) -> None:
    """The process that dies. Where it does not, it tells which lines it came to, and how often."""
    roles = ("coordinator", "relay", "timers", "api")
    tracer = Tracer(request["place"], request["nth"], tell)
    async with Runtime(settings(url, broker, kit.sagas), catalog=kit.catalog(), roles=roles) as runtime:
        stage = Stage(runtime, request["run"], tracer, tell)
        await stage.open()
        await kit.units[request["unit"]](stage)
        tell(json.dumps(tracer.counts))
        os._exit(0)  # what comes next begins as after a crash


async def finish(kit: Kit, url: str, broker: str, run: str, tell: Callable[[str], None]) -> None:
    """The process that comes after, until every saga of the run has ended."""
    roles = ("coordinator", "relay", "timers", "api", "participants")
    async with Runtime(settings(url, broker, kit.sagas), catalog=kit.catalog(), roles=roles) as runtime:
        loops = asyncio.create_task(runtime.run())
        await kit.until_ended(Stage(runtime, run, Tracer("", 0, tell), tell), url, loops)


async def until_ended(stage: Stage, url: str, loops: asyncio.Task[None]) -> None:
    """A person asks again what was not answered."""
    keys = [key(stage.run, letter) for letter in "abcdr"]
    connection = await asyncpg.connect(url)
    missing = set(VOTES)
    async with stage.client() as client:
        while not loops.done():
            missing -= {letter for letter in sorted(missing) if await stage.vote(client, letter)}
            ended = await connection.fetchval(
                "SELECT count(*) FROM saga_heads WHERE ended AND business_key = ANY ($1)", keys
            )
            unsent = await connection.fetchval("SELECT count(*) FROM outbox_unsent")
            if ended == SAGAS and not unsent and not missing:
                stage.tell("ended")
                os._exit(0)
            await asyncio.sleep(0.01)
    await loops


KIT = Kit("tests.crash.payouts", lambda: Catalog.of([payout, reminder], [vault, teller]), UNITS, until_ended)
