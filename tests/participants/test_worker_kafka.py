"""A running participant on a real Kafka: a crash between commit and answer, and a second life that heals it."""

from __future__ import annotations

import uuid

import pytest

from orchestrator.broker.contract import open_broker
from orchestrator.messages import Command, Done
from orchestrator.participants import Participant, Work
from orchestrator.participants.testing import command_message, trial
from orchestrator.participants.work import Pool
from tests.databases import Database
from tests.participants.running import Replies, SilentBroker, at_work, outcomes, send
from tests.participants.tills import MIGRATIONS

COUNT = 300


@pytest.mark.kafka
async def test_on_kafka_an_answer_lost_by_a_crash_is_given_by_the_next_life(
    kafka: str, pool: Pool, database: Database
) -> None:
    name = f"till-{uuid.uuid4().hex[:8]}"  # topics outlive a test

    class Ring(Command[Done], to=name, name=f"{name}.Ring"):
        """Ring it up."""

        amount: int

    till = Participant(name, migrations=MIGRATIONS)

    @till.handles(Ring)
    async def ring(command: Ring, work: Work) -> Done:
        await work.connection.execute("INSERT INTO effects (kind, key, amount) VALUES ('ring', $1, 1)", work.key)
        return Done()

    messages = [command_message(Ring(amount=number), saga=f"s-{number:04}") for number in range(COUNT)]
    broker = open_broker(f"kafka://{kafka}")
    try:
        await broker.ensure_topics(till.topics())
        async with trial(till, pool, database.migrate_url) as tried:
            silent = SilentBroker(broker)
            async with at_work(till, silent, pool):
                await send(broker, messages)
                await silent.tried.wait()
            async with Replies(broker, till) as replies, at_work(till, broker, pool):
                answered = await replies.answered(COUNT, 60)
            assert all(len(answers) == 1 for answers in answered.values())
            assert set(outcomes(replies.all)) == {"ok"}
            [row] = await tried.rows("SELECT count(*), count(DISTINCT key) AS keys FROM effects")
            assert row == {"count": COUNT, "keys": COUNT}
    finally:
        await broker.close()
