"""Ending the driver's producers and consumers, whatever state they are in.

The driver's own ``stop`` may wait for ever (an idempotent producer retries without end; a consumer that joins a group
waits for its slowest member) and may raise CancelledError although nobody cancelled anything (a fetch that was backing
off is cancelled and awaited bare). So it runs in a task of its own with a limit, and what is left is then taken down
part by part. Apart from this file only ``KafkaConsumer``, in two places, and ``kafka_records`` touch the driver's
private parts.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import aiokafka.errors as kafka_errors

logger = logging.getLogger(__name__)


async def _finish(work: Coroutine[Any, Any, object], timeout_ms: int) -> str | None:
    """Run to the end or for so long; returns what went wrong, in words."""
    task = asyncio.create_task(work, name="kafka-driver-stop")
    await asyncio.wait({task}, timeout=timeout_ms / 1000)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        return f"no end within {timeout_ms} ms"
    if task.cancelled():
        return "the driver cancelled itself"
    error = task.exception()
    return None if error is None else f"{type(error).__name__}: {error}"


async def _end_tasks(*tasks: "asyncio.Task[Any] | None") -> None:
    running = {task for task in tasks if task is not None and not task.done()}
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=5)


async def close_producer(producer: Any, timeout_ms: int) -> None:
    """Send what is queued and disconnect; after the time, give it up. Never raises."""
    trouble = await _finish(producer.stop(), timeout_ms)
    if trouble is None:
        return
    logger.debug("a Kafka producer did not stop by itself: %s", trouble)
    # Nobody shall wait for what is still queued; then the requests on their way fail; then the sender can end.
    producer._message_accumulator.fail_all(kafka_errors.ProducerClosed())
    await _finish(producer.client.close(), timeout_ms)
    await _end_tasks(producer._sender.sender_task)


async def close_consumer(consumer: Any, timeout_ms: int) -> None:
    """Leave the group and disconnect; after the time, without saying goodbye. Never raises.

    The driver keeps a named member's place for it, until the session time-out: right for a crash, but who stops in
    order may never come back, and the others shall not wait. So it leaves as one without a name.
    """
    if consumer._coordinator is not None:
        consumer._coordinator._group_instance_id = None
    trouble = await _finish(consumer.stop(), timeout_ms)
    if trouble is None:
        return
    logger.warning("a Kafka consumer left its group without saying goodbye: %s", trouble)
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    if coordinator is not None:
        await _end_tasks(coordinator._coordination_task, coordinator._heartbeat_task, coordinator._commit_refresh_task)
    if fetcher is not None:
        await _end_tasks(fetcher._fetch_task, *fetcher._pending_tasks)
    await _finish(consumer._client.close(), timeout_ms)
