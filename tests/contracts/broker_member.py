"""A member of a group in a process of its own, made to be killed: says ``joined`` once it has partitions, reads on.

Run: python -m tests.contracts.broker_member URL GROUP TOPIC SESSION_TIMEOUT_MS
"""

import asyncio
import sys
from dataclasses import replace

from orchestrator.broker.contract import open_broker
from tests.contracts.brokers import QUICK, Positions


async def main(url: str, group: str, topic: str, session_timeout_ms: str) -> None:
    """Join and read until killed."""
    settings = replace(QUICK, session_timeout_ms=int(session_timeout_ms))
    consumer = open_broker(url, settings=settings).consumer(group, [topic], Positions())
    await consumer.start()
    said = False
    while True:
        await consumer.fetch(100, 50)
        if consumer.assignment() and not said:
            said = True
            sys.stdout.write("joined\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
