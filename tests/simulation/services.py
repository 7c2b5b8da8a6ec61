"""Participants behind the broker: commands in, replies out, late, twice, in another order, days later.

Rules of this file
- What they do, refuse, lose and doubt is the exploring's `Participants`; here it gets headers and bytes.
- The id of a reply is its command's id and outcome, as the product's own library has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from orchestrator.broker.contract import IncomingMessage, OutgoingMessage
from orchestrator.kernel.effects import Outgoing
from orchestrator.kernel.inputs import Answer
from orchestrator.messages.protocol import ERROR_TYPE, REFUSED_TYPE, SETTLED_TYPE, commands_topic, replies_topic
from tests.simulation.world import World

DAY_S = 86_400.0


@dataclass(slots=True)
class Services:
    """All participants of one world. `reply_types`: purpose -> wire name of a good answer."""

    world: World
    name: str
    reply_types: dict[str, str]
    flying: dict[int, asyncio.TimerHandle] = field(default_factory=dict)
    calm: bool = False
    _count: int = 0

    def hear(self, message: IncomingMessage) -> None:
        """Every message of the log comes by here."""
        if message.topic == commands_topic(self.name):
            self.later(lambda: self._obey(message))
            if self._happens(self.world.faults.rates.duplicate):
                self.later(lambda: self._obey(message))

    def later(self, act: Callable[[], None], wait: float = 0.0) -> None:
        """Does something after a while: soon, or after seconds, or (rarely) days."""
        random, rates = self.world.random, self.world.faults.rates
        if not wait:
            wait = random.random() * 0.05
        if self._happens(rates.late):
            wait = random.choice([0.3, 2.0, 20.0, 400.0, 2 * DAY_S]) * random.random()
        self._count += 1
        number = self._count

        def due() -> None:
            self.flying.pop(number, None)
            with self.world.judging():
                act()

        self.flying[number] = self.world.loop.call_later(wait, due)
        self.due[number] = due

    due: dict[int, Callable[[], None]] = field(default_factory=dict)

    def hurry(self) -> None:
        """The faults are over: what was on its way for days comes now."""
        self.calm = True
        for number, handle in list(self.flying.items()):
            handle.cancel()
            self.flying[number] = self.world.loop.call_later(0.01, self.due[number])

    def _obey(self, message: IncomingMessage) -> None:
        texts = {name.removeprefix("ce_"): value.decode() for name, value in message.headers}
        saga_id = (message.key or b"").decode()
        command = Outgoing(
            version=int(texts["id"].rpartition("/")[2]), kind=texts["purpose"], target=self.name, key=saga_id,  # type: ignore[arg-type]
            type=texts["type"], type_version=1, body=orjson.loads(message.value or b"null"), attributes=texts,
        )  # fmt: skip
        self.world.log(f"  {self.name} takes {texts['purpose']} {texts['activity']} {texts['attempt']}")
        answer = self.world.participants.obey(saga_id, command, self.world.clock())
        if answer is not None:
            for _ in range(2 if self._happens(self.world.faults.rates.duplicate) else 1):
                self.later(lambda: self._reply(texts, answer))

    def _reply(self, command: dict[str, str], answer: Answer) -> None:
        self.world.log(f"  {self.name} answers {answer.purpose} {answer.activity} {answer.outcome}")
        self.world.messages.append(self.reply(command, answer))

    def reply(self, command: dict[str, str], answer: Answer) -> OutgoingMessage:
        """An answer as it goes over the wire."""
        good = answer.outcome == "ok"
        settled = {"refused": REFUSED_TYPE, "error": ERROR_TYPE}.get(answer.outcome, SETTLED_TYPE)
        texts = {
            "ce_specversion": "1.0", "ce_id": f"{command['id']}/{answer.outcome}",
            "ce_source": f"/participants/{self.name}",
            "ce_type": self.reply_types[answer.purpose] if good else settled,
            "ce_tenant": command["tenant"], "ce_correlationid": command["correlationid"],
            "ce_causationid": command["id"], "ce_activity": answer.activity, "ce_round": str(answer.round),
            "ce_attempt": str(answer.attempt), "ce_purpose": answer.purpose, "ce_outcome": answer.outcome,
            "ce_participant": self.name, "ce_until": str(answer.until) if answer.until else "",
            "ce_donekey": answer.done_key,
        }  # fmt: skip
        headers = tuple((name, text.encode()) for name, text in texts.items() if text)
        body = answer.data if good else {"reason": answer.outcome}
        return OutgoingMessage(replies_topic(self.name), command["correlationid"].encode(), orjson.dumps(body), headers)

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self.world.random.random() < rate
