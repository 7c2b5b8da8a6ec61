"""On a real Kafka too, no topic of the product holds anything of a person in the clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.broker.contract import open_broker
from orchestrator.vault import keyfile
from tests.databases import Database
from tests.vault.conftest import at_work
from tests.vault.test_canary import ANNA, found_in

TOPICS = ("caretest.events", "visits.commands", "visits.replies", "all.records")


@pytest.mark.kafka
async def test_on_kafka_every_topic_holds_sealed_values_only(kafka: str, database: Database, tmp_path: Path) -> None:
    """The event that came by HTTP, commands, replies, what the saga tells, and the feed of records."""
    path = tmp_path / "vault.keys"
    keyfile.create(path)
    # The server is shared with tests whose topic between sagas has one partition.
    async with at_work(database, path, broker_url=f"kafka://{kafka}", topic_partitions=1) as product:
        await product.publish("caretest.CareRequested", {"case": "k-1", **ANNA})
        await product.publish("caretest.CareRequested", {"case": "k-2", "mood": "no", **ANNA})
        await product.approve("k-1")
        await product.until("k-2", "compensated")
        await product.settled()
    broker = open_broker(f"kafka://{kafka}")
    try:
        found = {}
        for topic in TOPICS:
            consumer = broker.consumer(f"canary-{topic}", [topic], _from_the_start)
            await consumer.start()
            texts = []
            for _ in range(20):
                texts += [str((m.key, m.value, m.headers)) for m in await consumer.fetch(500, 300)]
                if texts and consumer.settled():
                    texts += [str((m.key, m.value, m.headers)) for m in await consumer.fetch(500, 1_000)]
                    break
            await consumer.stop()
            found[topic] = "\n".join(texts)
    finally:
        await broker.close()
    assert all(found.values()), {topic: len(text) for topic, text in found.items()}
    assert all("personal:v1:" in text for text in found.values()), [t for t, x in found.items() if "personal" not in x]
    assert found_in(found) == []


async def _from_the_start(partitions: frozenset[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
    return dict.fromkeys(partitions, 0)
