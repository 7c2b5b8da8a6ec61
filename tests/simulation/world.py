"""One simulated world: what outlives every process, and what everybody outside knows.

Rules of this file
- Everything random comes from `random`, everything that happens goes into the trace: one seed, one trace.
- Participants, people and operators are those of the kernel's exploring; here they are reached over a broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random
from typing import Any
from zlib import crc32

from orchestrator.broker.contract import Assignment, IncomingMessage, OutgoingMessage
from orchestrator.kernel.api import Limits
from orchestrator.kernel.graph import Program, node_path
from orchestrator.kernel.inputs import Parent
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.messages.protocol import ANSWER_TYPE
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.columns import message_key
from orchestrator.store.contract import DeadLetter
from orchestrator.testing.exploring.checker import Checker
from orchestrator.testing.exploring.explore import Scenario
from orchestrator.testing.exploring.faults import Faults
from orchestrator.testing.exploring.participants import Participants
from orchestrator.testing.exploring.words import EPOCH
from orchestrator.testing.exploring.world import Aim, SimulatedError
from tests.simulation.fake_log import Log
from tests.simulation.tables import Tables
from tests.simulation.virtual import VirtualLoop

SECOND = 1_000_000
NAME_PIECE_MS = 700


@dataclass(slots=True)
class World:
    """Store, broker, participants and the knowledge of the checker, for one schedule."""

    loop: VirtualLoop
    random: Random
    faults: Faults
    scenario: Scenario
    catalog: Catalog
    aim: Aim = field(default_factory=Aim)
    limits: Limits = field(default_factory=Limits)
    group: str = "orchestrator"
    tables: Tables = field(init=False)
    messages: Log = field(init=False)
    participants: Participants = field(init=False)
    programs: Mapping[str, Program] = field(init=False)
    form_data: Callable[[str], dict[str, Any]] | None = None
    checker: Checker = field(default_factory=Checker)
    states: dict[str, State] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    parents: dict[str, Parent] = field(default_factory=dict)
    published: dict[tuple[str, int], int] = field(default_factory=dict)  # (saga, version) -> first appended at
    refused: set[tuple[str, int]] = field(default_factory=set)  # what the broker never takes
    clocked: dict[tuple[str, str, int], tuple[str, int]] = field(default_factory=dict)  # timer -> its command
    started: dict[str, str] = field(default_factory=dict)  # saga id -> id of the message that starts it
    told: set[tuple[str, int]] = field(default_factory=set)  # refused messages that their sagas know of
    applied: dict[int, Any] = field(default_factory=dict)  # acts of people that moved a saga, by identity
    struck: list[tuple[str, str]] = field(default_factory=list)
    past: list[Any] = field(default_factory=list)
    acts: list[tuple[str, Any]] = field(default_factory=list)  # what people want to do: saga, input
    trace: list[str] = field(default_factory=list)
    broken: BaseException | None = None

    def __post_init__(self) -> None:
        self.checker.two_people = self.limits.two_people
        self.tables = Tables(self.clock)
        self.messages = Log(self.clock)
        self.participants = Participants(self.faults, self.scenario.replies, self._reads)
        for key, program in list(self.catalog.programs.items()):
            self.catalog.programs[key] = self._faulty(program)
        newest: dict[str, Any] = self.catalog.newest
        for name, saga in newest.items():
            newest[name] = _Installed(saga, self.catalog.programs[name, saga.version])
        self.programs = {name: program for (name, _), program in self.catalog.programs.items()}

    def clock(self) -> int:
        """Microseconds since the epoch."""
        return EPOCH + int(self.loop.time() * SECOND)

    @property
    def tasks(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The open tasks, as people's lists show them."""
        return self.tables.tasks

    @property
    def now(self) -> int:
        """The same, as people read it."""
        return self.clock()

    def log(self, text: str) -> None:
        """One line of the trace."""
        self.trace.append(f"{self.loop.time():14.6f} {text}")

    def digest(self) -> str:
        """The trace as one hash."""
        return sha256("\n".join(self.trace).encode()).hexdigest()

    @contextmanager
    def judging(self) -> Iterator[None]:
        """A check: what it finds ends the schedule, and is nobody else's error."""
        try:
            yield
        except Exception as error:
            if self.broken is None:
                self.broken = error
                self.log(f"BROKEN {error}")

    def happened(self, saga_id: str, record: Record) -> None:
        """A record is committed; an aimed fault may follow."""
        if self.aim.hits(record):
            self.struck.append((saga_id, self.aim.act))

    def give(self, saga_id: str, given: Any, child: Any = None) -> Any:
        """What people of the exploring do with an input: here it is asked of a process, and answered later."""
        self.acts.append((saga_id, given))
        return _Taken()

    def never_takes(self, message: OutgoingMessage, id_: str) -> bool:
        """The broker refuses this message for good, whoever sends it and however often."""
        saga_id, _, version = id_.rpartition("/")
        place = (saga_id, int(version))
        if place in self.refused:
            return True
        texts = dict(message.headers)
        rate = self.faults.rates.send_refused
        mine = place not in self.published and texts.get("ce_type") != ANSWER_TYPE.encode()
        if rate and mine and crc32(id_.encode()) % 997 < rate * 997:
            self.refused.add(place)
            return True
        return False

    # --- what the checker asks ----------------------------------------------------------------------------------------

    def consumed_partitions(self) -> Iterator[tuple[Assignment, list[IncomingMessage]]]:
        """Every partition that intake reads."""
        for topic in self.catalog.routes.consumed:
            for number, partition in enumerate(self.messages.topics.get(topic, ())):
                yield (topic, number), partition.messages

    def accounted(self, message: IncomingMessage) -> bool:
        """It was taken in, or is kept as a dead letter, or concerns nobody here."""
        texts = {name: value.decode(errors="replace") for name, value in message.headers}
        if (message.topic, message.partition, message.offset) in self.kept_letters():
            return True
        key = message_key(texts.get("ce_tenant", "main"), texts.get("ce_source", ""), texts.get("ce_id", ""))
        type_ = texts.get("ce_type", "")
        routes = self.catalog.routes
        if self.tables.inbox.get(key) == sha256(message.value or b"").digest():
            if type_ not in routes.awaiters or self._remembered(f"{texts['ce_source']}\n{texts['ce_id']}"):
                return True
            # A copy of one that is kept as a dead letter.
            return any((letter.value, letter.headers) == (message.value, message.headers) for letter in self._letters())
        known = type_ in self.catalog.registry and message.topic.endswith(".events")
        return known and type_ not in routes.awaiters and type_ not in routes.starts

    def _remembered(self, event_id: str) -> bool:
        """An event that sagas may wait for was taken by one, or is kept for those to come."""
        tables = self.tables
        return any(place[3] == event_id for place in tables.early) or any(p[1] == event_id for p in tables.consumed)

    def kept_letters(self) -> set[tuple[str, int, int]]:
        """Where the dead letters came from."""
        return {(letter.topic, letter.partition, letter.offset) for letter in self._letters()}

    def _letters(self) -> list[DeadLetter]:
        return list(self.tables.letters.values())

    def _reads(self, saga_id: str, activity: str) -> bool:
        node = self.programs[self.names[saga_id]].graph.nodes[node_path(activity)]
        return bool(getattr(node, "reads", False))

    def _faulty(self, program: Program) -> Program:
        """The program, whose functions raise for some moments; at one moment they do the same each time."""

        def wrap(key: str, call: Callable[..., Any]) -> Callable[..., Any]:
            salt = crc32(key.encode())

            def called(*given: Any, **arguments: Any) -> Any:
                piece = int(self.loop.time() * 1000) // NAME_PIECE_MS
                if self.faults.rates.raises and (salt ^ piece * 2654435761) % 997 < self.faults.rates.raises * 997:
                    raise SimulatedError(f"{key} at {piece}")
                return call(*given, **arguments)

            return called

        functions = {key: replace(found, call=wrap(key, found.call)) for key, found in program.functions.items()}
        return replace(program, functions=functions)


class _Installed:
    """An installed saga whose functions raise now and then."""

    def __init__(self, saga: Any, program: Program) -> None:
        self._saga, self.program = saga, program

    def __getattr__(self, name: str) -> Any:
        return getattr(self._saga, name)


class _Taken:
    """The answer that people of the exploring see at once: not refused."""

    refusal = None
