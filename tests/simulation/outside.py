"""The world outside: starts, events, duplicates, garbage, and the operator who drives dead letters again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import orjson

from orchestrator.broker.contract import IncomingMessage, OutgoingMessage
from orchestrator.kernel.children import saga_id as id_of
from orchestrator.store.contract import DeadLetter
from tests.simulation.plan import Plan
from tests.simulation.process import Process
from tests.simulation.world import World

GARBAGE: tuple[tuple[bytes | None, dict[str, bytes]], ...] = (
    (b"\xff\xfe not json", {}),
    (None, {}),
    (b"{}", {"ce_specversion": b"1.0", "ce_id": b"g", "ce_source": b"/g", "ce_type": b"no.Such"}),
    (b'{"id": 1e999}', {"ce_specversion": b"1.0", "ce_id": b"g2", "ce_source": b"/g", "ce_type": b"flow_contracts.Go"}),
    (b"[" * 2_000, {"ce_specversion": b"1.0", "ce_id": b"g3", "ce_source": b"/g", "ce_type": b"flow_contracts.Nudge"}),
    (b"{}", {"ce_specversion": b"1.0", "ce_id": b"g4", "ce_source": b"/g", "ce_tenant": b"who", "ce_type": b"x.Y"}),
    (b"{}", {"ce_specversion": b"1.0", "ce_id": b"\xff", "ce_source": b"/g", "ce_type": b"flow_contracts.Go"}),
    (b"x" * 2_000_000, {"ce_specversion": b"1.0", "ce_id": b"g5", "ce_source": b"/g", "ce_type": b"x.Y"}),
)
MENDABLE = ("poison", "not_installed", "too_many_early")


@dataclass(slots=True)
class Outside:
    """Everybody who writes to the broker besides sagas and participants."""

    world: World
    plan: Plan
    started: dict[str, str] = field(default_factory=dict)  # saga id -> id of the message that starts it
    _count: int = 0
    _redriven: set[int] = field(default_factory=set)

    def begin(self) -> None:
        """The starts, one message for each business key."""
        scenario = self.world.scenario
        for number in range(self.plan.sagas):
            key = scenario.business_key if not number else f"{scenario.business_key}{number}"
            data = dict(scenario.start_data, id=key)
            sent = self._send(scenario.start_type, key, data, f"start-{key}")
            self.world.started[id_of("main", scenario.name, key)] = dict(sent.headers)["ce_id"].decode()

    def event(self) -> None:
        """An event: more often than not one that somebody waits for."""
        world = self.world
        wanted = sorted({check[2:] for check in world.tables.waits})
        known = list(world.scenario.events)
        fitting = [event for event in known if event[:2] in wanted]
        if wanted and not fitting:
            type_, key = world.random.choice(wanted)
            fitting = [(type_, key, {"id": key})]
        chosen = fitting if fitting and world.random.random() < 0.7 else known
        if chosen:
            type_, key, data = world.random.choice(chosen)
            self._count += 1
            self._send(type_, key, data, f"event-{self._count}")

    def again(self) -> None:
        """Something that came before comes once more."""
        log, random = self.world.messages, self.world.random
        came = [partition for _, partition in self.world.consumed_partitions() if partition]
        if came:
            old: IncomingMessage = random.choice(random.choice(came))
            self.world.log(f"again {old.topic}[{old.partition}] {old.offset}")
            log.append(OutgoingMessage(old.topic, old.key, old.value, old.headers))

    def garbage(self) -> None:
        """Something that nobody can read, or an id that came before with another body."""
        random = self.world.random
        if random.random() < 0.4:
            self._forge()
            return
        value, headers = random.choice(GARBAGE)
        topic = random.choice(sorted(self.world.catalog.routes.consumed))
        self.world.log(f"garbage on {topic}")
        self.world.messages.append(OutgoingMessage(topic, b"k", value, tuple(headers.items())))

    def _forge(self) -> None:
        came = [partition for _, partition in self.world.consumed_partitions() if partition]
        if came:
            old: IncomingMessage = self.world.random.choice(self.world.random.choice(came))
            texts = dict(old.headers)
            ours = texts.get("ce_source", b"").startswith(b"/sagas/")  # nobody else may send as a saga
            if old.value and not ours and texts.get("ce_type", b"").startswith(b"flow_contracts."):
                self.world.log(f"forged {old.topic}[{old.partition}] {old.offset}")
                self.world.messages.append(OutgoingMessage(old.topic, old.key, old.value + b" ", old.headers))

    def redrive(self, processes: list[Process]) -> bool:
        """After the faults: what can be mended is driven again. True where there was something."""
        found = False
        for number, letter in sorted(self.world.tables.letters.items()):
            if letter.reason in MENDABLE and number not in self._redriven and number not in self.world.tables.redriven:
                self._redriven.add(number)
                process = processes[number % len(processes)]
                if process.router is not None:
                    item = process.router.route(_raw(letter), number)
                    self.world.loop.create_task(_drive(process, item))
                    found = True
        return found

    def _send(self, type_: str, key: str, data: object, id_: str) -> OutgoingMessage:
        self.world.log(f"outside sends {type_} {key} {id_}")
        headers = {"ce_specversion": "1.0", "ce_id": id_, "ce_source": "/outside", "ce_type": type_}
        topic = f"{type_.rpartition('.')[0]}.events"
        packed = tuple((name, text.encode()) for name, text in headers.items())
        message = OutgoingMessage(topic, key.encode(), orjson.dumps(data), packed)
        if topic in self.world.messages.topics:
            self.world.messages.append(message)
        return message


def _raw(letter: DeadLetter) -> IncomingMessage:
    headers = tuple((name, value or b"") for name, value in letter.headers)
    return IncomingMessage(letter.topic, letter.partition, letter.offset, letter.key, letter.value, headers, 0)


async def _drive(process: Process, item: object) -> None:
    if item is not None:
        await asyncio.wait_for(process.submit(item), 60)  # type: ignore[arg-type]
