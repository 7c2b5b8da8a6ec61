"""Checkpoints in a topic of a real Kafka: sent, kept, and read back by a process that has just come."""

from __future__ import annotations

import uuid

import pytest

from orchestrator.broker.contract import OutgoingMessage, open_broker
from orchestrator.evidence.notes import Checkpoint
from orchestrator.evidence.places import TAIL_MESSAGES, TopicPlace
from tests.evidence.logs import ring, signer

KEYS = ring().verifiers


@pytest.mark.kafka
async def test_a_topic_keeps_checkpoints_and_gives_the_last_one_back(kafka: str) -> None:
    """Also behind more messages than are read back, and behind what somebody else has sent there."""
    topic = f"log.checkpoints.{uuid.uuid4().hex[:8]}"
    notes = [
        signer().sign(Checkpoint(signer().name, number, bytes(32), number, 1_795_228_200_000_000).text)
        for number in range(1, TAIL_MESSAGES + 21)
    ]
    writing, reading = open_broker(f"kafka://{kafka}"), open_broker(f"kafka://{kafka}")
    try:
        place = TopicPlace(writing, topic)
        assert await place.last(KEYS) is None
        await place.publish(notes[:1])
        last = await TopicPlace(reading, topic).last(KEYS)
        assert last is not None
        assert last.note == notes[0]
        await place.publish(notes[1:])
        producer = writing.producer("stranger")
        await producer.start()
        assert await producer.send([OutgoingMessage(topic, None, b"I was here\n")]) == [None]
        await producer.stop()
        last = await TopicPlace(reading, topic).last(KEYS)
        assert last is not None
        assert last.checkpoint.number == len(notes)
        await place.close()
    finally:
        await writing.close()
        await reading.close()
