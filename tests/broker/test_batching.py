"""Sharing appends: order, company, cancellation, limits."""

import asyncio
from collections.abc import Sequence

import pytest

from orchestrator.broker.batching import Batcher, Results
from orchestrator.broker.contract import BrokerError, OutgoingMessage, SendError


def message(number: int) -> OutgoingMessage:
    return OutgoingMessage("t", None, str(number).encode())


class Log:
    """An append that can be held open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: BaseException | None = None
        self.open = 0

    async def append(self, messages: Sequence[OutgoingMessage]) -> Results:
        self.open += 1
        assert self.open == 1, "two appends at once could overtake each other"
        self.batches.append([int(m.value or b"") for m in messages])
        await self.gate.wait()
        self.open -= 1
        if self.error is not None:
            raise self.error
        return [SendError("refused", "odd", retriable=False) if int(m.value or b"") % 2 else None for m in messages]


def batcher(log: Log, *, linger_ms: int = 0, append: int = 100, waiting: int = 100) -> Batcher:
    return Batcher(log.append, linger_ms=linger_ms, append_messages_max=append, waiting_messages_max=waiting)


async def test_what_waits_goes_together_and_each_gets_its_own_answers() -> None:
    log = Log()
    sends = batcher(log)
    log.gate.clear()
    tasks = [asyncio.create_task(sends.send([message(n), message(n + 1)])) for n in range(0, 10, 2)]
    await asyncio.sleep(0.01)
    assert log.batches == [list(range(10))] or log.batches[0] == [0, 1]
    log.gate.set()
    for answers in await asyncio.gather(*tasks):
        assert [answer is None for answer in answers] == [True, False]
    assert [n for batch in log.batches for n in batch] == list(range(10))
    assert len(log.batches) <= 2


async def test_a_lingering_batch_waits_for_company() -> None:
    log = Log()
    sends = batcher(log, linger_ms=30)
    first = asyncio.create_task(sends.send([message(0)]))
    await asyncio.sleep(0.005)
    second = asyncio.create_task(sends.send([message(2)]))
    await asyncio.gather(first, second)
    assert log.batches == [[0, 2]]


async def test_a_batch_takes_whole_callers_up_to_its_limit() -> None:
    log = Log()
    sends = batcher(log, append=3)
    log.gate.clear()
    tasks = [asyncio.create_task(sends.send([message(0)]))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(sends.send([message(n), message(n)])) for n in (2, 4, 6)]
    tasks += [asyncio.create_task(sends.send([message(8)] * 5))]
    await asyncio.sleep(0)
    log.gate.set()
    await asyncio.gather(*tasks)
    assert log.batches == [[0], [2, 2], [4, 4], [6, 6], [8] * 5], "a caller's messages are never split"


async def test_a_cancelled_caller_does_not_cancel_the_append_of_others() -> None:
    log = Log()
    sends = batcher(log)
    log.gate.clear()
    impatient = asyncio.create_task(sends.send([message(0)]))
    patient = asyncio.create_task(sends.send([message(2)]))
    await asyncio.sleep(0.01)
    impatient.cancel()
    await asyncio.sleep(0)
    log.gate.set()
    assert await patient == [None]
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_a_failing_append_reaches_its_callers_and_the_next_one_works() -> None:
    log = Log()
    sends = batcher(log)
    log.error = BrokerError("away")
    with pytest.raises(BrokerError, match="away"):
        await sends.send([message(0)])
    log.error = None
    assert await sends.send([message(2)]) == [None]


async def test_senders_wait_when_too_much_waits_already() -> None:
    log = Log()
    sends = batcher(log, append=2, waiting=2)
    log.gate.clear()
    tasks = [asyncio.create_task(sends.send([message(n)])) for n in range(0, 20, 2)]
    await asyncio.sleep(0.01)
    assert sends._waiting_count <= 2
    log.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(n for batch in log.batches for n in batch) == list(range(0, 20, 2))


async def test_close_finishes_what_is_under_way_and_refuses_the_rest() -> None:
    log = Log()
    sends = batcher(log)
    log.gate.clear()
    task = asyncio.create_task(sends.send([message(0)]))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(sends.close(1_000))
    await asyncio.sleep(0.01)
    with pytest.raises(BrokerError, match="stopped"):
        await sends.send([message(2)])
    log.gate.set()
    assert await task == [None]
    await closing


async def test_close_gives_up_an_append_that_hangs() -> None:
    log = Log()
    sends = batcher(log)
    log.gate.clear()
    hanging = asyncio.create_task(sends.send([message(0)]))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(sends.send([message(2)]))
    await asyncio.sleep(0.01)
    await sends.close(20)
    for task in (hanging, waiting):
        with pytest.raises(BrokerError):
            await task


async def test_nothing_to_send_is_no_append() -> None:
    log = Log()
    assert await batcher(log).send([]) == []
    assert log.batches == []
