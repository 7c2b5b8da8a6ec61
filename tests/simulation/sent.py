"""What leaves the coordinator, judged as it is appended: nothing undecided, nothing overtaken, nothing changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.broker.contract import IncomingMessage
from orchestrator.testing.exploring.checker import demand
from tests.simulation.world import World


@dataclass(slots=True)
class Sent:
    """The judge of one world's log. `last`: the newest version of each saga on each topic."""

    world: World
    last: dict[tuple[str, str], int] = field(default_factory=dict)

    def hear(self, message: IncomingMessage) -> None:
        """A message is on the broker."""
        texts = dict(message.headers)
        if texts.get("ce_source", b"").startswith(b"/sagas/"):
            with self.world.judging():
                self._judge(message, texts["ce_id"].decode())

    def _judge(self, message: IncomingMessage, id_: str) -> None:
        world = self.world
        saga_id, _, number = id_.rpartition("/")
        place = (saga_id, int(number))
        kept = world.tables.outbox.get(place)
        demand(kept is not None, f"{id_} is on the broker, and nobody has committed it (V4)")
        assert kept is not None
        row = kept.row
        same = (row.topic, row.key.encode(), row.value, row.headers)
        found = (message.topic, message.key, message.value, message.headers)
        demand(same == found, f"{id_} was sent with other bytes than were committed (V7)")
        if place in world.published:
            return
        world.published[place] = message.appended_at
        for other, sent in world.tables.outbox.items():
            # Under another key (another child's) it lies in another partition, where nobody sees an order.
            lane = (sent.row.topic, sent.row.key) == (row.topic, row.key)
            if other[0] == saga_id and other[1] < place[1] and lane:
                known = other in world.published or other in world.refused
                demand(known, f"{id_} overtakes {other[1]} on {message.topic} (V8)")
