"""What must be true after a kill at a line, and again after the next process has finished the work.

Rules of this file
- Nothing here trusts the product: what happened is read from the log of messages, from the vault's ledger, from the
  file of the world outside, and from the tables with SQL of its own.
- A check gives sentences; none means that nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg

from orchestrator.broker.contract import Assignment, Broker, IncomingMessage
from orchestrator.store.chain import opened, verify
from orchestrator.store.columns import message_key
from orchestrator.store.contract import StoredRecord
from orchestrator.store.sql import load_queries
from tests.crash.payouts import outside

SQL = load_queries("tests.crash", "lines.sql")
GROUP_TOPICS = ("lines.events", "vault.replies", "teller.replies")
TOPICS = (*GROUP_TOPICS, "vault.commands", "teller.commands", "linesdone.events")
LETTERS = "abcdr"
PHASES = {"a": "completed", "b": "compensated", "c": "compensated", "d": "completed", "r": "completed"}
LEDGER = {
    "a": ["hold", "book"],
    "b": ["hold", "book", "unbook", "release"],
    "c": ["hold", "release"],
    "d": ["hold", "book"],
    "r": [],
}
OUTSIDE = {"a": 1, "b": 0, "c": 0, "d": 1, "r": 1}
DECIDED = {"a": 1, "b": 1, "c": 0, "d": 1, "r": 0}


def header(message: IncomingMessage, name: str) -> str:
    """One header as text, or ""."""
    return next((value.decode() for known, value in message.headers if known == name), "")


class Witness:
    """Reads every topic from its beginning, beside the product, and remembers."""

    def __init__(self, broker: Broker, topics: Sequence[str] = TOPICS, group: str = "witness") -> None:
        self.topics = frozenset(topics)
        self._consumer = broker.consumer(group, topics, self._from_the_start)
        self.messages: dict[Assignment, list[IncomingMessage]] = {}
        self.sent: set[tuple[str, str]] = set()  # topic and id
        self._first: dict[tuple[str, str, str], tuple[bytes | None, Any]] = {}
        self._newest: dict[tuple[str, str], int] = {}

    async def _from_the_start(self, places: frozenset[Assignment]) -> Mapping[Assignment, int | None]:
        return dict.fromkeys(places, None)

    async def __aenter__(self) -> Witness:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def catch_up(self) -> list[IncomingMessage]:
        """Everything on the log that was not seen before."""
        found: list[IncomingMessage] = []
        while True:
            found += await self._consumer.fetch(1_000, 1)
            ends = await self._consumer.end_offsets()
            if ends and set(ends.items()) <= set(self._consumer.positions().items()):
                break
        for message in found:
            self.messages.setdefault((message.topic, message.partition), []).append(message)
            self.sent.add((message.topic, header(message, "ce_id")))
        return found

    def flaws(self, new: Sequence[IncomingMessage]) -> Iterator[str]:
        """Duplicates that differ, and first occurrences of a saga's messages out of order (V7, V8)."""
        for message in new:
            id_ = header(message, "ce_id")
            if not id_:
                continue
            what = (message.topic, header(message, "ce_source"), id_)
            first = self._first.get(what)
            if first is not None:
                if first != (message.value, message.headers):
                    yield f"{message.topic} at {message.offset}: {id_} came again with other bytes"
                continue
            self._first[what] = (message.value, message.headers)
            saga_id, _, version = id_.rpartition("/")
            if message.topic.endswith(".commands"):
                newest = self._newest.get((message.topic, saga_id), 0)
                if int(version) < newest:
                    yield f"{message.topic} at {message.offset}: {id_} came after version {newest}"
                self._newest[message.topic, saga_id] = int(version)


class Checks:
    """Looks at one database and one log, run after run."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], witness: Witness) -> None:
        self._connection, self._witness = connection, witness
        self._passed: dict[Assignment, int] = {}

    @staticmethod
    def keys(run: str) -> list[str]:
        """The business keys of a run, in order."""
        return [f"{run}-{letter}" for letter in LETTERS]

    async def after_the_kill(self, run: str) -> list[str]:
        """What must be true at any moment: no message without its record, none marked that is not there, no position
        past what is not processed."""
        # The tables first: what is written while the log is read is looked at the next time.
        keys = self.keys(run)
        marked = {(row["topic"], row["id"]) for row in await self._connection.fetch(SQL["marked"], keys)}
        positions = {(row[0], row[1]): row[2] for row in await self._connection.fetch(SQL["positions"])}
        new = await self._witness.catch_up()
        flaws = list(self._witness.flaws(new))
        ours = [header(message, "ce_id") for message in new if header(message, "ce_source").startswith("/sagas/")]
        sagas = list({id_.rpartition("/")[0] for id_ in ours})
        decided = {row["id"] for row in await self._connection.fetch(SQL["decided"], sagas)}
        flaws += [f"{id_} is on the broker without a committed record" for id_ in ours if id_ not in decided]
        flaws += [f"{id_} is marked as sent and not on {topic}" for topic, id_ in marked - self._witness.sent]
        for place, position in positions.items():
            if place[0] not in self._witness.topics:
                continue  # of the other units
            below = [
                m for m in self._witness.messages.get(place, []) if self._passed.get(place, 0) <= m.offset < position
            ]
            flaws += await self._unprocessed(place, position, below)
            self._passed[place] = position
        return flaws

    async def _unprocessed(self, place: Assignment, position: int, below: Sequence[IncomingMessage]) -> list[str]:
        if place[0].endswith(".events"):  # what sagas publish there is for others, and passed over here
            below = [message for message in below if not header(message, "ce_source").startswith("/sagas/")]
        if not place[0].endswith(".commands"):
            dead = {tuple(row)[:3] for row in await self._connection.fetch(SQL["dead_letters"])} if below else set()
            keys = {message_key("main", header(m, "ce_source"), header(m, "ce_id")): m for m in below}
            taken = {row["key"] for row in await self._connection.fetch(SQL["taken_in"], list(keys))}
            lost = [m for key, m in keys.items() if key not in taken and (*place, m.offset) not in dead]
        else:
            replies = self._witness.messages.get((place[0].replace(".commands", ".replies"), place[1]), [])
            answered = {header(reply, "ce_causationid") for reply in replies}
            lost = [m for m in below if header(m, "ce_id") not in answered]
        return [f"{place[0]}: the position is {position}, and {m.offset} was never processed" for m in lost]

    async def after_the_end(self, run: str) -> list[str]:
        """What must be true of a run whose work is finished."""
        flaws = await self.after_the_kill(run)
        keys = self.keys(run)
        heads = await self._connection.fetch(SQL["heads"], keys)
        if sorted(head["business_key"] for head in heads) != keys:
            return [*flaws, f"acknowledged starts and sagas differ: {[head['business_key'] for head in heads]}"]
        streams: dict[str, list[StoredRecord]] = {head["saga_id"]: [] for head in heads}
        for row in await self._connection.fetch(SQL["records"], list(streams)):
            streams[row["saga_id"]].append(opened(row["saga_id"], row["version"], row["body"], row["hash"]))
        for row in await self._connection.fetch(SQL["left_over"], list(streams)):
            flaws.append(f"{row['saga_id']}: a {row['what']} is left over")
        return [*flaws, *await self._judged(run, heads, streams)]

    async def _judged(self, run: str, heads: Sequence[Any], streams: Mapping[str, list[StoredRecord]]) -> list[str]:
        """What is wrong with these sagas, each as it ended, and with all that they did."""
        flaws: list[str] = []
        for head in heads:
            flaws += _stream_flaws(head, streams[head["saga_id"]])
        flaws += await self._effect_flaws(self.keys(run))
        dead = await self._connection.fetch(SQL["dead_letters"])
        kept = sum(row["key"] == f"{run}-x".encode() for row in dead)
        if kept != 1:
            flaws.append(f"the unreadable message was kept {kept} times")
        flaws += [
            f"a dead letter that should not be: {dict(row)}" for row in dead if not (row["key"] or b"").endswith(b"-x")
        ]
        strange = await self._connection.fetch(SQL["participants_dead_letters"])
        return flaws + [f"a participant could not read {dict(row)}" for row in strange]

    async def _effect_flaws(self, keys: Sequence[str]) -> list[str]:
        flaws, seen = [], set()
        kinds: dict[str, list[str]] = {key: [] for key in keys}
        for row in await self._connection.fetch(SQL["ledger"], keys):
            kinds[row["payout_id"]].append(row["kind"])
            if row["key"] in seen:
                flaws.append(f"{row['payout_id']}: {row['key']} had its effect twice")
            seen.add(row["key"])
        happened = [what for _, what in outside()]
        for key in keys:
            letter = key[-1]
            if kinds[key] != LEDGER[letter]:
                flaws.append(f"{key}: the vault did {kinds[key]}, it should be {LEDGER[letter]}")
            if happened.count(key) != OUTSIDE[letter]:
                flaws.append(f"{key}: {happened.count(key)} times outside, it should be {OUTSIDE[letter]}")
        return flaws

    async def unfinished(self, run: str) -> str:
        """Where the sagas of a run stand that did not end."""
        rows = await self._connection.fetch(SQL["unfinished"], self.keys(run))
        return str([dict(row) for row in rows])


def _stream_flaws(head: Any, stream: Sequence[StoredRecord]) -> Iterator[str]:
    """Chain, cause, outcome, undo order, one decision, one firing."""
    key, letter = head["business_key"], head["business_key"][-1]
    flaw = verify(stream, head_version=head["version"], head_hash=head["hash"])
    if flaw is not None:
        yield f"{key}: {flaw}"
        return
    if f"m-{key}" not in stream[0].causation_id:
        yield f"{key}: started by {stream[0].causation_id}"
    if head["phase"] != PHASES[letter]:
        yield f"{key}: it ended {head['phase']}, not {PHASES[letter]}"
    types = [record.type for record in stream]
    for type_, count in (("task.decided", DECIDED[letter]), ("task.voted", DECIDED[letter])):
        if types.count(type_) != count:
            yield f"{key}: {types.count(type_)} times {type_}, it should be {count}"
    if types.count("timer.fired") != (letter == "r"):
        yield f"{key}: the timer fired {types.count('timer.fired')} times"
    done = [record.activity for record in stream if record.type == "step.succeeded"]
    undone = [record.activity for record in stream if record.type == "undo.succeeded"]
    if undone != (done[::-1] if PHASES[letter] == "compensated" else []):
        yield f"{key}: done {done}, undone {undone}"
